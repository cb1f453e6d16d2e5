"""What is known to fail: the cells that are meant, by their options, and how each of them ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunematrix.configuration.releases import Distribution, Specifier
from tunematrix.configuration.section import NonEmpty, OneOrMore, Section
from tunematrix.spec.relation import is_relations
from tunematrix.spec.values import Link

ROOTS = frozenset({"object", "BaseException", "Exception"})
"""What every exception is."""


def holds(
    when: Mapping[str, str | tuple[str, ...]], axes: Mapping[str, str | tuple[str, ...]]
) -> bool:
    """Return whether options are among those that `when` names, on all axes.

    Args:
        when: axis to the option or options that will do.
        axes: axis to option; of a relation to several, one of which is enough.
    """
    return all(
        not {*_as_names(wanted)}.isdisjoint(_as_names(axes.get(axis, ())))
        for axis, wanted in when.items()
    )


def _as_names(option: str | tuple[str, ...]) -> tuple[str, ...]:
    return (option,) if isinstance(option, str) else option


class KnownFailure(Section):
    """Cells that are known to fail. If one stops failing that way, it counts as failed."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["raises"]}, {"required": ["check"]}]}
    )

    when: Mapping[str, OneOrMore] = Field(
        min_length=1,
        description="For each axis, the option or options it applies to; a cell must match on all "
        "axes named.",
    )
    raises: NonEmpty | None = Field(
        None, description="The exception that the cell ends with, or one of its base classes."
    )
    check: NonEmpty | None = Field(None, description="Name of the check that fails.")
    reason: NonEmpty = Field(description="Why it fails; shown in the report.")
    link: Link = Field(description="Page where the bug is tracked.")
    releases: Mapping[Distribution, Specifier] = Field(
        {},
        description="Distribution to the range of its releases that have the bug; with others, the "
        "cell has to pass. Default: all.",
    )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what isn't said: a spec without ranges keeps the digest that it always had."""
        return {key: value for key, value in write(self).items() if key != "releases" or value}

    @model_validator(mode="after")
    def _expects_one_thing(self) -> Self:
        if (self.raises is None) == (self.check is None):
            text = "expects {count}; give exactly one of raises and check"
            count = "neither an exception nor a check" if self.raises is None else "two things"
            raise PydanticCustomError("not_one", text, {"count": count})
        if self.raises is not None and self.raises.removeprefix("builtins.") in ROOTS:
            text = "raises: {name} would excuse whatever goes wrong; name the exception itself"
            raise PydanticCustomError("any_exception", text, {"name": self.raises})
        return self

    @property
    def is_of_relation(self) -> bool:
        """Whether it is the relation that fails, and not its arms."""
        return is_relations(self.check or "")

    def matches(self, axes: Mapping[str, str]) -> bool:
        """Return whether a cell with these options (axis to option) is meant."""
        return holds(self.when, axes)
