"""The bounds a spec can set: one frozen section per check, each field with its unit."""

from __future__ import annotations

import math
from typing import Annotated, NoReturn, Self, TypeAlias

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Names, Section


def seen(low: float, high: float) -> AfterValidator:
    """Return a validator of bounds on what always lies between two figures: one has to say more.

    A minimum of `low` or a maximum of `high` holds whatever is measured, and tests nothing.
    """

    def check(bound: Range | None) -> Range | None:
        if bound is not None:
            idle = (bound.min is None or bound.min <= low, bound.max is None or bound.max >= high)
            if all(idle):
                _refuse_idle(bound.min if bound.max is None else bound.max, low, high)
        return bound

    return AfterValidator(check)


def below(high: float, low: float = -math.inf) -> AfterValidator:
    """Return a validator of one bound: from `high` on, or up to `low`, nothing violates it."""

    def check(value: float | None) -> float | None:
        if value is not None and not low < value < high:
            _refuse_idle(value, low, high)
        return value

    return AfterValidator(check)


def _refuse_idle(value: float | None, low: float, high: float) -> NoReturn:
    between = f"above {low:g}" if math.isinf(high) else f"below {high:g}"
    if math.isfinite(low) and math.isfinite(high):
        between = f"between {low:g} and {high:g}"
    text = "{value} can't be violated, so it would test nothing; give a bound {between}"
    raise PydanticCustomError("idle", text, {"value": f"{value:g}", "between": between})


def _ordered(maximum: float | None, minimum: float | None) -> float | None:
    if maximum is not None and minimum is not None and minimum > maximum:
        raise PydanticCustomError(
            "never_true",
            "the minimum {minimum} is above the maximum {maximum}; nothing can pass, swap them",
            {"minimum": minimum, "maximum": maximum},
        )
    return maximum


LEAST_LOSS, MOST_LOSS = -1e6, 1e6
"""Losses beyond these (nats per token) don't exist."""
MOST_MB = 1e9
MOST_DIFFERENCE = 100.0
"""A difference of logits, or of losses, that no two models have."""


class Range(Section):
    """Bounds on one measured value; at least one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    min: float | None = Field(None, description="Smallest value that passes.")
    max: float | None = Field(None, description="Largest value that passes.")

    @field_validator("max")
    @classmethod
    def _above_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _ordered(value, info.data.get("min"))

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise PydanticCustomError("no_bound", "bounds nothing; give min, max or both")
        return self


Loss: TypeAlias = Annotated[float | None, below(MOST_LOSS, LEAST_LOSS)]
Size: TypeAlias = Annotated[Range | None, seen(0, MOST_MB)]


class LossBounds(Section):
    """Bounds on the logged training loss, in nats per token."""

    final_min: Loss = Field(None, description="Smallest final loss that passes (nats per token).")
    final_max: Loss = Field(None, description="Largest final loss that passes (nats per token).")
    first_min: Loss = Field(None, description="Smallest first loss that passes (nats per token).")
    first_max: Loss = Field(
        None,
        description="Largest first loss that passes (nats per token): a loss that falls from a "
        "wrong start still looks like learning.",
    )
    no_nan: bool = Field(
        True,
        description="Fail if any logged loss is nan or infinite, or if training ended in nan.",
    )
    falls: bool | None = Field(
        None,
        description="Whether the loss that a trainer's command logs must fall. Default: where it "
        "logs four or more.",
    )

    @field_validator("final_max")
    @classmethod
    def _above_final_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _ordered(value, info.data.get("final_min"))

    @field_validator("first_max")
    @classmethod
    def _above_first_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _ordered(value, info.data.get("first_min"))


class LogitErrorBound(Section):
    """Bound on the error that quantizing causes in the base's logits."""

    max: Annotated[float, below(1)] = Field(
        ge=0,
        description="Largest error of the loaded base's logits, relative to the float32 original.",
    )


class MemoryBounds(Section):
    """Bounds on memory, measured three ways, in MB of 10^6 bytes."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    stored_mb: Size = Field(
        None, description="Size of the loaded model, with all quantization state (MB)."
    )
    allocator_peak_mb: Size = Field(
        None, description="Peak of the allocator, above its level when training begins (MB)."
    )
    process_peak_mb: Size = Field(
        None, description="Peak memory of the process, above its level when training begins (MB)."
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if not self.model_fields_set:
            fields = ", ".join(type(self).model_fields)
            raise PydanticCustomError(
                "no_bound", "bounds nothing; give one of {fields}", {"fields": fields}
            )
        return self


class ThroughputBound(Section):
    """The speed that training must reach."""

    min_tokens_per_second: Annotated[float, below(math.inf, 1e-3)] = Field(
        gt=0, description="Lowest training speed that passes (tokens/s, without padding)."
    )


class ReloadBound(Section):
    """Bound on the change that saving and loading again may cause."""

    max_difference: Annotated[float, below(MOST_DIFFERENCE)] = Field(
        ge=0,
        description="Largest difference between a logit of the trained and of the reloaded model.",
    )


class MergeBound(Section):
    """Bound on the change that merging an adapter into its base may cause."""

    max: Annotated[float, below(1)] = Field(
        ge=0,
        description="Largest difference between logits of the adapted and the merged model, "
        "divided by the change that training made.",
    )


class GenerationBound(Section):
    """Bound on the texts that a model generates."""

    min_grammatical: float = Field(
        gt=0, le=1, description="Smallest share of generated texts that follow the grammar."
    )


class ParityBounds(Section):
    """Bounds on the distance to the recorded truth, which was computed in float64."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    logits: Annotated[float | None, below(MOST_DIFFERENCE)] = Field(
        None, ge=0, description="Largest difference of a logit."
    )
    gradients: Annotated[float | None, below(1)] = Field(
        None,
        ge=0,
        description="Largest difference of a gradient, divided by the largest entry of the same "
        "parameter's gradient.",
    )
    trace: Annotated[float | None, below(MOST_DIFFERENCE)] = Field(
        None,
        ge=0,
        description="Largest difference of a loss, in 20 steps of plain SGD (nats per token).",
    )


class TransferBound(Section):
    """Bound on the change that taking an adapter to another engine may cause."""

    max_difference: Annotated[float, below(MOST_DIFFERENCE)] = Field(
        ge=0,
        description="Largest difference of a logit from the one recorded by the adapter's own "
        "engine.",
    )


class StderrPatterns(Section):
    """Texts that are searched for in the run's stderr."""

    forbidden_patterns: Names = Field(
        (), description="Fail if one of these texts (not regular expressions) is in stderr."
    )
    warn_patterns: Names = Field(
        (), description="Warn, without failing, if one of these texts is in stderr."
    )
