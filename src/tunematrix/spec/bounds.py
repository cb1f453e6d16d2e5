"""The bounds a spec can set: one frozen section per check, each field with its unit."""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Base of everything read from YAML: frozen, nothing unknown, nothing converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Item = TypeVar("Item")


def unique(values: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return `values`; refuse a second appearance, which would be silently ignored."""
    for index, value in enumerate(values):
        if value in values[:index]:
            context = {"value": value, "index": index}
            raise PydanticCustomError("twice", "{value} is listed twice; remove one", context)
    return values


NonEmpty = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[NonEmpty, ...], Strict(False), AfterValidator(unique)]


def _ordered(maximum: float | None, minimum: float | None) -> float | None:
    if maximum is not None and minimum is not None and minimum > maximum:
        raise PydanticCustomError(
            "never_true",
            "the minimum {minimum} is above the maximum {maximum}; nothing can pass, swap them",
            {"minimum": minimum, "maximum": maximum},
        )
    return maximum


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


class Loss(Section):
    """Bounds on the logged training loss, in nats per token."""

    final_min: float | None = Field(
        None, description="Smallest final loss that passes (nats per token)."
    )
    final_max: float | None = Field(
        None, description="Largest final loss that passes (nats per token)."
    )
    first_min: float | None = Field(
        None, description="Smallest first loss that passes (nats per token)."
    )
    first_max: float | None = Field(
        None,
        description="Largest first loss that passes (nats per token): a loss that falls from a "
        "wrong start still looks like learning.",
    )
    no_nan: bool = Field(True, description="Fail if any logged loss is nan or infinite.")

    @field_validator("final_max")
    @classmethod
    def _above_final_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _ordered(value, info.data.get("final_min"))

    @field_validator("first_max")
    @classmethod
    def _above_first_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _ordered(value, info.data.get("first_min"))


class LogitError(Section):
    """Bound on what quantizing changes in the base's logits."""

    max: float = Field(
        ge=0, description="Largest relative error of the loaded base's logits against fp32."
    )


class Memory(Section):
    """Bounds on memory, measured three ways, in MB of 10^6 bytes."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    stored_mb: Range | None = Field(
        None, description="Stored bytes of the model with all quantization state (MB)."
    )
    allocator_peak_mb: Range | None = Field(
        None, description="Peak of the allocator over the level where training begins (MB)."
    )
    process_peak_mb: Range | None = Field(
        None, description="Peak resident size over the level where training begins (MB)."
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if not self.model_fields_set:
            fields = ", ".join(type(self).model_fields)
            raise PydanticCustomError(
                "no_bound", "bounds nothing; give one of {fields}", {"fields": fields}
            )
        return self


class Throughput(Section):
    """The speed that training must reach."""

    min_tokens_per_second: float = Field(
        gt=0, description="Fewest tokens, padding excluded, per second of training wall time."
    )


class Reload(Section):
    """Bound on what saving and loading again changes."""

    max_difference: float = Field(
        ge=0, description="Largest absolute logit difference between trained and reloaded model."
    )


class Merge(Section):
    """Bound on what merging an adapter into its base changes."""

    max: float = Field(
        ge=0,
        description="Largest logit difference between adapted and merged model, as a share of what "
        "training changed.",
    )


class Generation(Section):
    """Bound on the texts that a model generates."""

    min_grammatical: float = Field(
        ge=0, le=1, description="Smallest share of generated texts that are stories of the dialect."
    )


class Parity(Section):
    """Bounds on the distance to the recorded truth, which was computed in float64."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    logits: float | None = Field(None, ge=0, description="Largest absolute logit difference.")
    gradients: float | None = Field(
        None,
        ge=0,
        description="Largest gradient difference, relative to the largest entry of the same "
        "parameter's gradient.",
    )
    trace: float | None = Field(
        None, ge=0, description="Largest difference of a loss in 20 steps of plain SGD (nats)."
    )


class Transfer(Section):
    """Bound on what taking an adapter from one engine to another changes."""

    max_difference: float = Field(
        ge=0, description="Largest absolute logit difference to what its own engine recorded."
    )


class Stderr(Section):
    """Texts looked for in what the run wrote to stderr."""

    forbidden_patterns: Names = Field(
        (), description="Fail if one of these texts (not regular expressions) is in stderr."
    )
    warn_patterns: Names = Field(
        (), description="Warn, without failing, if one of these texts is in stderr."
    )


class Inference(Section):
    """A completion from a real server, scored by a reference model."""

    prompt: NonEmpty = Field("Once upon a time", description="Text to complete.")
    max_tokens: int = Field(50, gt=0, description="Most tokens to generate.")
    temperature: float = Field(0.7, ge=0, description="Sampling temperature; 0 is greedy.")
    perplexity_max: float = Field(
        500.0, gt=0, description="Largest perplexity of prompt and completion that passes."
    )
    server_timeout: int = Field(60, gt=0, description="Seconds to wait for the server.")
