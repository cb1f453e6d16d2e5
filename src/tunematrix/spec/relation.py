"""The part of a spec about several cells at once: arms, and the quantities they must agree in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NoReturn, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import NonEmpty, Section, unique
from tunematrix.spec.bounds import Range, below, seen
from tunematrix.spec.problems import Route
from tunematrix.spec.values import PlainOrList, Scalar

Quantity: TypeAlias = Literal["gradients", "updates", "parameters", "state", "losses", "logits"]
"""Quantities that are compared value by value."""
Figure: TypeAlias = Literal["stored_mb", "allocator_peak_mb", "process_peak_mb"]
"""Figures whose ratio is compared."""

Ratio: TypeAlias = Annotated[Range, seen(0, 1e6)]

SAME, RATIO = "same_", "ratio_"
"""Begin the names of a relation's checks, and of no cell's: same_gradients, ratio_stored_mb."""
LOGITS = "logits"
"""The entry of an arm that isn't an override: which of its logits are compared."""

STAGES = (
    "base", "trained", "reloaded", "peft", "auto-peft", "auto", "merged", "unmerged", "late",
    "untyped", "hasty", "foreign",
    "quantized", "dequantized",
)  # fmt: skip
"""The stages whose logits a cell may have kept."""

ArmName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def is_relations(check: str) -> bool:
    """Return whether a check of this name is a relation's, and not a cell's."""
    return check.startswith((SAME, RATIO))


class Planted(Section):
    """A difference that the relation must notice, in one of its arms."""

    arm: NonEmpty = Field(description="The arm that the fault is planted in.")
    fault: str = Field(pattern=r"^[\w.]+:\w+$", description="The fault to plant, as MODULE:NAME.")

    @property
    def name(self) -> str:
        """The fault's own name, for ids."""
        return self.fault.rpartition(":")[2]


class Relation(Section):
    """Arms, each a cell of its own; the others must agree with the first."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["compare"]}, {"required": ["ratio"]}]}
    )

    arms: Mapping[ArmName, Mapping[str, PlainOrList]] = Field(
        min_length=2,
        description="For each arm, the axes and keys in which it differs. `logits` names the stage "
        "whose logits are compared (default: trained). Arms with equal settings are run once.",
    )
    compare: Annotated[tuple[Quantity, ...], Strict(False), AfterValidator(unique)] = Field(
        (),
        description="Quantities that must agree: gradients, updates, parameters (at the end), "
        "state (of optimizer and random generators, at the end), losses, logits.",
    )
    ratio: Mapping[Figure, Annotated[Mapping[ArmName, Ratio], Field(min_length=1)]] = Field(
        {},
        description="For each figure (stored_mb, allocator_peak_mb, process_peak_mb) and arm, the "
        "range for that arm's figure divided by the first arm's.",
    )
    tolerance: Mapping[Quantity, Annotated[float, Field(ge=0), below(1)]] = Field(
        {},
        description="For each quantity whose largest relative difference follows from theory, that "
        "difference. Default: ten times the difference recorded for correct runs.",
    )
    of_rounding: float = Field(
        0.0,
        ge=0,
        description="A number N: adds N × the quantizer's logit error to the tolerance.",
    )
    planted: Annotated[tuple[Planted, ...], Strict(False)] = Field(
        (), description="Deliberate errors that the relation must notice; `-m planted` tries them."
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
    def _backends_are_whole(self) -> Self:
        named = [name for name, arm in self.arms.items() if "backend" in arm]
        if named and (len(named) < len(self.arms) or not self.is_across):
            text = "name the backend of every arm, and more than one of them; or restrict the spec"
            _refuse(("arms", named[0], "backend"), f"{text} in matrix.backend")
        return self

    @model_validator(mode="after")
    def _planted_can_be_told_apart(self) -> Self:
        names: set[str] = set()
        for index, planted in enumerate(self.planted):
            if planted.arm not in self.arms:
                text = f"{{name}} is not an arm; give one of {', '.join(self.arms)}"
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
                text = f"{{name}} is not a stage; give one of {', '.join(STAGES)}"
                _refuse(route, text, str(arm[LOGITS]))
        return self

    @property
    def varied(self) -> frozenset[str]:
        """The axes and settings in which the arms may differ."""
        return frozenset(key for arm in self.arms.values() for key in arm if key != LOGITS)

    @property
    def across(self) -> tuple[str, ...]:
        """The backends of the arms, where they name them."""
        return tuple(
            dict.fromkeys(str(arm["backend"]) for arm in self.arms.values() if "backend" in arm)
        )

    @property
    def is_across(self) -> bool:
        """Whether the arms are of several backends, which only a fleet has in one run."""
        return len(self.across) > 1

    def overrides_of(self, arm: str) -> Mapping[str, Scalar | tuple[Scalar, ...]]:
        """Return the overrides of an arm, without its stage."""
        return {key: value for key, value in self.arms[arm].items() if key != LOGITS}

    def stage_of(self, arm: str) -> str:
        """Return the stage that an arm's logits are taken from."""
        return str(self.arms[arm].get(LOGITS, "trained"))


def _refuse(route: Route, text: str, name: str = "") -> NoReturn:
    raise PydanticCustomError("undecidable", text, {"name": name, "route": route})
