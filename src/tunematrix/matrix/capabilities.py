"""What options declare about each other: a cell's options → the first no.

An axis that an option doesn't mention is unconstrained. In an axis that it mentions, an option
that isn't listed is a no, so that what nobody has thought of is not run by accident. A backend
that isn't listed is another matter: the option belongs to other backends, and is no point there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from tunematrix.errors import did_you_mean
from tunematrix.spec.bounds import Names, NonEmpty, Section
from tunematrix.spec.model import holds
from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.values import OneOrMore
from tunematrix.spec.yaml_tree import Tree


@dataclass(frozen=True)
class No:
    """A combination that is declared unsupported.

    Attributes:
        reason: why.
        link: where that is documented or tracked; empty when nowhere.
        raises: name of the exception that running it ends with; None when not stated.
        checks: names of the checks that fail when it is run; empty when not stated.
        declared_in: the config file, relative to its root.
    """

    reason: str
    link: str
    raises: str | None
    checks: tuple[str, ...]
    declared_in: str


class Refusal(Section):
    """A declared no."""

    reason: NonEmpty = Field(description="Why it is unsupported.")
    link: str = Field("", description="Where that is documented or tracked.")
    raises: NonEmpty | None = Field(None, description="Exception that running it ends with.")
    checks: Names = Field((), description="Checks that fail when it is run, no others.")

    def no(self, file: str) -> No:
        """Return this refusal as the answer of a config file."""
        return No(self.reason, self.link, self.raises, self.checks, file)


class Unsupported(Refusal):
    """A declared no to a combination of several axes."""

    when: Mapping[str, OneOrMore] = Field(
        min_length=1, description="Axis to option, or to a list of options; all must match."
    )


def _answer(value: object) -> object:
    if value is True:
        return None
    if isinstance(value, dict):
        return value
    text = "is neither true nor a no with a reason; write true or {{reason: ..., link: ...}}"
    raise PydanticCustomError("no_answer", text)


Answer: TypeAlias = Annotated[Refusal | None, BeforeValidator(_answer)]


class BuildTools(Section):
    """What an option compiles with on the machine that it is used on."""

    compiler: str = Field("", description="Command that compiles, unless CXX names another.")
    tools: Names = Field((), description="Commands, on PATH or in the virtualenv.")
    headers: Names = Field((), description="Headers of Python's own, such as Python.h.")


class Declarations(Section):
    """The part of an option's file that the matrix reads."""

    model_config = ConfigDict(extra="ignore")

    name: NonEmpty = Field(description="The file's name without .yaml.")
    description: str = Field("", description="One line for listings.")
    preload: Names = Field((), description="Of a backend: modules imported once for all cells.")
    canary: str = Field("", description="Of a backend: package.module:function, tried in a fork.")
    requires: Names = Field((), description="Modules without which it is unavailable.")
    install: str = Field("", description="The command that installs those modules.")
    builds_with: BuildTools = Field(
        default_factory=BuildTools, description="What it compiles with, at first use."
    )
    capabilities: Mapping[str, Mapping[str, Answer]] = Field(
        {}, description="Axis to option to true, or to a no with its reason."
    )
    unsupported: Annotated[tuple[Unsupported, ...], Strict(False)] = Field(
        (), description="Combinations of several axes that don't work with this option."
    )


def is_at_home(declared: Declarations, backend: str) -> bool:
    """Return whether an option has anything to do with a backend: a no is an answer, too."""
    answers = declared.capabilities.get("backend")
    return answers is None or backend in answers


def first_no(file: str, declared: Declarations, axes: Mapping[str, str]) -> No | None:
    """Return the first no of one option to a cell's options (axis to option), if there is one."""
    for axis, answers in declared.capabilities.items():
        option = axes[axis]
        if option not in answers:
            return No(f"{axis} {option} is not declared in {file}", "", None, (), file)
        if (refusal := answers[option]) is not None:
            return refusal.no(file)
    for entry in declared.unsupported:
        if holds(entry.when, axes):
            return entry.no(file)
    return None


def declaration_problems(
    tree: Tree, declared: Declarations, own_axis: str, axes: Iterable[str]
) -> Iterator[Problem]:
    """Yield a problem for each axis that a declaration names and that can't have an effect."""
    known = [axis for axis in axes if axis != own_axis]
    routes: list[Route] = [("capabilities", axis) for axis in declared.capabilities]
    routes += [
        ("unsupported", index, "when", axis)
        for index, entry in enumerate(declared.unsupported)
        for axis in entry.when
    ]
    for route in routes:
        axis = str(route[-1])
        if axis == own_axis:
            yield tree.problem(route, "is the file's own axis; name another one")
        elif axis not in known:
            yield tree.problem(route, f"is not an axis; {did_you_mean(axis, known)}")
