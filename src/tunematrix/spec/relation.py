"""What a spec says of several cells at once: arms that must agree, and in what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NoReturn, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.spec.bounds import NonEmpty, Range, Section, unique
from tunematrix.spec.problems import Route
from tunematrix.spec.values import PlainOrList, Scalar

Quantity: TypeAlias = Literal["gradients", "updates", "parameters", "state", "losses", "logits"]
"""What is compared value by value."""
Figure: TypeAlias = Literal["stored_mb", "allocator_peak_mb", "process_peak_mb"]
"""What is compared by its ratio."""

SAME, RATIO = "same_", "ratio_"
"""Begin the names of a relation's checks, and of no cell's: same_gradients, ratio_stored_mb."""
LOGITS = "logits"
"""The entry of an arm that isn't an override: which of its logits are compared."""

STAGES = (
    "base", "trained", "reloaded", "peft", "auto-peft", "auto", "merged", "unmerged", "late",
    "quantized", "dequantized",
)  # fmt: skip
"""Whose logits a cell may have kept."""

ArmName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def is_relations(check: str) -> bool:
    """Return whether a check of this name is a relation's, and not a cell's."""
    return check.startswith((SAME, RATIO))


class Planted(Section):
    """A difference that the relation must notice, in one of its arms."""

    arm: NonEmpty = Field(description="The arm that it is planted in.")
    fault: str = Field(
        pattern=r"^[\w.]+:\w+$", description="Context manager to enter there, MODULE:NAME."
    )

    @property
    def name(self) -> str:
        """The fault's own name, for ids."""
        return self.fault.rpartition(":")[2]


class Relation(Section):
    """Arms, each a cell of its own, of which the first is what the others must agree with."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["compare"]}, {"required": ["ratio"]}]}
    )

    arms: Mapping[ArmName, Mapping[str, PlainOrList]] = Field(
        min_length=2,
        description="Name to the overrides, axes included, that make the arm; `logits` names the "
        "stage whose logits it brings (trained). Arms that run the same are run once.",
    )
    compare: Annotated[tuple[Quantity, ...], Strict(False), AfterValidator(unique)] = Field(
        (),
        description="What must agree: gradients, updates, parameters (those at the end), state "
        "(of optimizer and random generators, at the end), losses, logits.",
    )
    ratio: Mapping[Figure, Annotated[Mapping[ArmName, Range], Field(min_length=1)]] = Field(
        {},
        description="Figure (stored_mb, allocator_peak_mb, process_peak_mb) to arm to bounds on "
        "its share of the first arm's.",
    )
    tolerance: Mapping[Quantity, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="Largest relative difference, where it follows from theory; else ten times "
        "what the table of tolerances has recorded of honest runs.",
    )
    of_rounding: float = Field(
        0.0,
        ge=0,
        description="Adds to a tolerance so many times the quantizer's own error of the logits.",
    )
    planted: Annotated[tuple[Planted, ...], Strict(False)] = Field(
        (), description="Differences that it must notice; -m planted tries them."
    )

    @model_validator(mode="after")
    def _is_decidable(self) -> Self:
        if not self.compare and not self.ratio:
            _refuse(("compare",), "compares nothing; give compare or ratio")
        others = list(self.arms)[1:]
        for figure, ratios in self.ratio.items():
            for arm in ratios.keys() - set(others):
                text = f"{{name}} has no ratio to the first arm; give one of {', '.join(others)}"
                _refuse(("ratio", figure, arm), text, arm)
        for quantity in self.tolerance:
            if quantity not in self.compare:
                text = "there is a tolerance for {name}, which isn't compared; add it to compare"
                _refuse(("tolerance", quantity), text, quantity)
        if self.of_rounding and not self.tolerance:
            _refuse(("of_rounding",), "adds to no tolerance; give one, or remove it")
        return self

    @model_validator(mode="after")
    def _planted_can_be_told_apart(self) -> Self:
        names: set[str] = set()
        for index, planted in enumerate(self.planted):
            if planted.arm not in self.arms:
                text = f"{{name}} is no arm; give one of {', '.join(self.arms)}"
                _refuse(("planted", index, "arm"), text, planted.arm)
            if planted.name in names:
                text = "a second fault is called {name}; give it another name"
                _refuse(("planted", index, "fault"), text, planted.name)
            names.add(planted.name)
        return self

    @model_validator(mode="after")
    def _stages_are_compared(self) -> Self:
        for name, arm in self.arms.items():
            if LOGITS not in arm:
                continue
            route = ("arms", name, LOGITS)
            if LOGITS not in self.compare:
                _refuse(route, "names logits, which aren't compared; add logits to compare")
            if arm[LOGITS] not in STAGES:
                text = f"{{name}} is no stage; give one of {', '.join(STAGES)}"
                _refuse(route, text, str(arm[LOGITS]))
        return self

    @property
    def varied(self) -> frozenset[str]:
        """The axes and settings in which the arms may differ."""
        return frozenset(key for arm in self.arms.values() for key in arm if key != LOGITS)

    def overrides_of(self, arm: str) -> Mapping[str, Scalar | tuple[Scalar, ...]]:
        """Return what makes an arm, without what it brings."""
        return {key: value for key, value in self.arms[arm].items() if key != LOGITS}

    def stage_of(self, arm: str) -> str:
        """Return the stage whose logits an arm brings."""
        return str(self.arms[arm].get(LOGITS, "trained"))


def _refuse(route: Route, text: str, name: str = "") -> NoReturn:
    raise PydanticCustomError("undecidable", text, {"name": name, "route": route})
