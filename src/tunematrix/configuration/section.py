"""The bases of all models read from YAML: frozen sections, and the texts and lists in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Base of all models read from YAML: frozen, no unknown keys, no conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PipelineStep(Section):
    """The config of one step.

    Attributes:
        section: the one that says what the step does, and so where it writes; empty where the step
            has no section of that kind.
        computes: whether it needs the cell's device.
    """

    section: ClassVar[str] = ""
    computes: ClassVar[bool] = True

    @property
    def token_variables(self) -> tuple[str, ...]:
        """Variables of the environment whose secrets it needs."""
        return ()

    @property
    def own(self) -> Any:
        """That section, or the step itself; it has an output_dir."""
        return getattr(self, self.section) if self.section else self

    def folders(self, name: str, below: Path) -> dict[str, Path]:
        """Return where it writes, by what later steps call that.

        Args:
            name: the step's. below: the cell's own folder, for what has no other.
        """
        return {name: Path(self.own.output_dir or below / name).expanduser()}


Item = TypeVar("Item")


def unique(values: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return `values`; refuse one that is listed twice, since the second would be ignored."""
    for index, value in enumerate(values):
        if value in values[:index]:
            context = {"value": value, "index": index}
            raise PydanticCustomError("twice", "{value} is listed twice; remove one", context)
    return values


def options(value: object) -> object:
    """Return a list of names as a tuple, or the word `all`; refuse everything else."""
    if not isinstance(value, list | tuple):
        if value == "all":
            return value
        text = "expected a list of options, or all; write [{value}]"
        raise PydanticCustomError("not_options", text, {"value": str(value)})
    if not value:
        raise PydanticCustomError("no_options", "lists no option; name one, or write all")
    for index, entry in enumerate(value):
        if not isinstance(entry, str):
            context = {"value": str(entry).lower(), "index": index}
            raise PydanticCustomError("not_a_name", "{value} is not text; quote it", context)
    return unique(tuple(value))


def _one_or_more(value: object) -> object:
    return value if isinstance(value, str) else options(value)


NonEmpty = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[NonEmpty, ...], Strict(False), AfterValidator(unique)]
OneOrMore: TypeAlias = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_more)]
