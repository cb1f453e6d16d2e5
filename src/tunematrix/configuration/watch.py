"""How training is watched from the inside, as a spec and a cell's configuration say it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from tunematrix.configuration.section import NonEmpty, Section


class Watch(Section):
    """What is asked of a training process that is watched from the inside."""

    device: NonEmpty | None = Field(
        None,
        description="Kind of device that parameters must be on, such as cuda. Default: any.",
    )
    strict: bool = Field(
        False,
        description="Fail, and not only warn, where a part of the probe itself falls over.",
    )


def _switched(value: object) -> object:
    """Read `true` as all that is the default, and `false` as nothing."""
    return ({} if value else None) if isinstance(value, bool) else value


Watching: TypeAlias = Annotated[
    Watch | None, BeforeValidator(_switched, json_schema_input_type=bool | Watch | None)
]
"""True, or a section, where training is watched; false or None where it isn't."""
