"""What options declare about each other: a cell's options → the first no.

An axis that an option doesn't mention is unconstrained. In an axis that it mentions, an option
that isn't listed is a no, so that what nobody has thought of is not run by accident. A backend
that isn't listed is another matter: the option belongs to other backends, and is no point there.
What a project or a plug-in adds, nobody else can list, so its own answer counts for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tunematrix.configuration.declarations import Answer, Declarations, Refusal
from tunematrix.configuration.releases import LimitOfReleases
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.errors import did_you_mean
from tunematrix.matrix.releases import FILE, version_here
from tunematrix.spec.known_failure import holds
from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.yaml_tree import Tree

STEP = "step"
"""Stands among the axes of `unsupported` for a step; a pipeline takes several."""


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


def _as_no(refusal: Refusal, file: str) -> No:
    return No(refusal.reason, refusal.link, refusal.raises, refusal.checks, file)


def is_at_home(declared: Declarations, backend: str) -> bool:
    """Return whether an option has anything to do with a backend: a no is an answer, too."""
    answers = declared.capabilities.get("backend")
    return answers is None or backend in answers


def first_no(
    file: str, declared: Declarations, axes: Mapping[str, str], steps: Iterable[str] = ()
) -> No | None:
    """Return the first no of one option to a cell's options (axis to option), if there is one.

    Args:
        steps: of a pipeline that the cell takes.
    """
    for axis, answers in declared.capabilities.items():
        option = axes[axis]
        if option not in answers:
            return No(f"{axis} {option} is not declared in {file}", "", None, (), file)
        if (refusal := answers[option]) is not None:
            return _as_no(refusal, file)
    points = [axes, *({**axes, STEP: step} for step in steps)]
    for entry in declared.unsupported:
        if any(holds(entry.when, point) for point in points):
            return _as_no(entry, file)
    return None


def of_release(limits: Iterable[LimitOfReleases], place: Mapping[str, str]) -> No | None:
    """Return the first thing that the installed releases can't do and that a cell asks for.

    Args:
        limits: of these releases. place: the cell's axes, and the name of its spec.
    """
    for one in limits:
        if holds(one.when, place):
            these = ", ".join(f"{name} {version_here(name)}" for name in one.releases)
            return No(f"{one.reason} ({these})", one.link, one.raises, (), FILE)
    return None


def with_answer(declared: Declarations, axis: str, option: str, answer: Answer) -> Declarations:
    """Return what an option declares, with the answer that an added option gives in its place.

    Only where it answers for some options of that axis, and not for this one, which it can't know.
    """
    answers = declared.capabilities.get(axis)
    if answers is None or option in answers:
        return declared
    capabilities = {**declared.capabilities, axis: {**answers, option: answer}}
    return declared.model_copy(update={"capabilities": capabilities})


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
        elif axis not in known and (axis != STEP or route[0] == "capabilities"):
            yield tree.problem(route, f"is not an axis; {did_you_mean(axis, known)}")
    steps = PipelineSteps.names()
    for index, entry in enumerate(declared.unsupported):
        named = entry.when.get(STEP, ())
        for step in (named,) if isinstance(named, str) else named:
            if step not in steps:
                text = f"{step} is no step of a pipeline; {did_you_mean(step, steps)}"
                yield tree.problem(("unsupported", index, "when", STEP), text)
