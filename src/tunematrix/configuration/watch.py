"""How training is watched from the inside, as a spec and a cell's configuration say it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, cast, get_args

from pydantic import BeforeValidator, Field

from tunematrix.configuration.section import Section
from tunematrix.errors import BadInput

DeviceKind: TypeAlias = Literal["cuda", "mps", "cpu"]
"""What parameters that PyTorch trains can lie on, as it names them."""


class Watch(Section):
    """What is asked of a training process that is watched from the inside."""

    device: DeviceKind | None = Field(
        None,
        description="Kind of device that parameters must be on: cuda, mps or cpu. Default: any.",
    )
    strict: bool = Field(
        False,
        description="Fail, and not only warn, where a part of the probe itself falls over.",
    )


def asked_for(device: str | None, *, strict: bool) -> Watch:
    """Return what somebody asks for in arguments, before anything is run.

    Raises:
        BadInput: there is no such kind of device.
    """
    kinds = get_args(DeviceKind)
    if device is not None and device not in kinds:
        raise BadInput(f"device {device}: is not a kind of device; it can be {', '.join(kinds)}")
    return Watch(device=cast("DeviceKind | None", device), strict=strict)


def _switched(value: object) -> object:
    """Read `true` as all that is the default, and `false` as nothing."""
    return ({} if value else None) if isinstance(value, bool) else value


Watching: TypeAlias = Annotated[
    Watch | None, BeforeValidator(_switched, json_schema_input_type=bool | Watch | None)
]
"""True, or a section, where training is watched; false or None where it isn't."""
