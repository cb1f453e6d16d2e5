"""The keys that options of every axis share: what one needs, can't do, and is built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    WrapSerializer,
)
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Names, NonEmpty, OneOrMore, Section


class Refusal(Section):
    """A combination that an option declares unsupported."""

    reason: NonEmpty = Field(description="Why it doesn't work; shown in the report.")
    link: str = Field("", description="Page where this is documented or tracked.")
    raises: NonEmpty | None = Field(None, description="Exception that a probe must end with.")
    checks: Names = Field((), description="Checks that must fail in a probe, and no others.")


class Unsupported(Refusal):
    """A combination of several axes that an option declares unsupported."""

    when: Mapping[str, OneOrMore] = Field(
        min_length=1,
        description="For each axis, the option or options it applies to; a cell must match on all "
        "axes named. `step` stands for any step that a pipeline takes.",
    )


def _answer(value: object) -> object:
    if value is True:
        return None
    if isinstance(value, dict | Refusal):
        return value
    text = "expected true, or why it is unsupported; write true or {{reason: ..., link: ...}}"
    raise PydanticCustomError("no_answer", text)


def _written(answer: object, write: SerializerFunctionWrapHandler) -> object:
    return True if answer is None else write(answer)


Answer: TypeAlias = Annotated[Refusal | None, BeforeValidator(_answer), WrapSerializer(_written)]


class BuildTools(Section):
    """Tools that an option needs to compile something on the user's machine."""

    compiler: str = Field(
        "", description="Command of the compiler, unless the variable CXX names another."
    )
    tools: Names = Field(
        (), description="Other commands that are needed, on PATH or in the virtualenv."
    )
    headers: Names = Field(
        (), description="Python's header files that are needed, such as Python.h."
    )


class Preparation(Section):
    """A function that is called once, before any time limit starts."""

    call: NonEmpty = Field(
        description="The function, as package.module:name; called with cache_dir and `arguments`."
    )
    note: NonEmpty = Field(
        description="Shown while the user waits, such as: compiling a kernel, about a minute."
    )
    arguments: Mapping[str, Any] = Field({}, description="More keyword arguments for the function.")


Implementation: TypeAlias = Mapping[str, Any]
"""`_target_` and its arguments, as Hydra instantiates them; an option's own settings stand there
as well, so that its class is the one to refuse what it doesn't know."""


class Declarations(Section):
    """The keys that an option of any axis may have."""

    declares: ClassVar[frozenset[str]] = frozenset()
    """Keys of one axis that no spec may override: it would test something else."""

    name: NonEmpty = Field(description="The option's name: that of its file, without .yaml.")
    description: str = Field("", description="One line, for lists of options.")
    requires: Names = Field(
        (), description="Python modules that must be installed; without one, cells are unavailable."
    )
    install: str = Field(
        "", description="Command that installs these modules; shown where one is missing."
    )
    builds_with: BuildTools = Field(
        default_factory=BuildTools,
        description="Tools that it needs to compile something when first used.",
    )
    prepare: Preparation | None = Field(
        None, description="Function to call once before its first cell, such as a compilation."
    )
    implementation: Implementation = Field(
        {}, description="`_target_` names the class or function; the other keys are its arguments."
    )
    capabilities: Mapping[str, Mapping[str, Answer]] = Field(
        {},
        description="For each axis and option: `true`, or a section with the reason why they don't "
        "work together.",
    )
    unsupported: Annotated[tuple[Unsupported, ...], Strict(False)] = Field(
        (), description="Combinations of several other axes that don't work with this option."
    )

    @classmethod
    def is_declared(cls, key: str) -> bool:
        """Whether a key says what the option is, so that no spec may override it."""
        common = Declarations.model_fields.keys() - {"description", "implementation"}
        return key in common or key in cls.declares
