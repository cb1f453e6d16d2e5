"""What follows from a quantizer's number format: the bits that it stores, and its errors."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict

from tunematrix.configuration.section import Section

Ratio: TypeAlias = Annotated[tuple[float, float], Strict(False)]


class Rounding(Section):
    """The number format that a quantizer rounds to; the expected error is computed from it."""

    code: Literal["range", "edge", "absmax", "halves", "nf4"] = Field(
        description="Levels. range: even, from a group's smallest to its largest weight; edge: the "
        "same, but 0 and the end further from it are levels; absmax: even, on both sides of 0; "
        "halves: the same, and one more below; nf4: those of 4-bit NormalFloat."
    )
    bits: int = Field(ge=1, description="Size of a rounded value (bits).")
    group_size: int | None = Field(
        None, ge=1, description="Weights that share a scale; none: all of a row."
    )
    within_rows: bool = Field(
        False, description="Whether a row that is shorter than a group is a group of its own."
    )
    scale_error: float = Field(
        0,
        ge=0,
        lt=1,
        description="Largest relative error of a group's scale, where scales are rounded too.",
    )
    ratio: Ratio | None = Field(
        None, description="Smallest and largest correct error, as shares of plain rounding's error."
    )


class Theory(Section):
    """How many bits a quantizer should store, and how large its error may be."""

    weight_bits: float | None = Field(None, gt=0, description="Size of one stored weight (bits).")
    group_size: int = Field(1, ge=1, description="Weights in a group.")
    group_bits: float = Field(0, ge=0, description="Stored beside each group (bits).")
    group_values: float = Field(
        0, ge=0, description="Values stored beside each group, in the compute dtype."
    )
    supergroup_size: int = Field(1, ge=1, description="Weights in a group of groups.")
    supergroup_bits: float = Field(
        0, ge=0, description="Stored beside each group of groups (bits)."
    )
    supergroup_values: float = Field(
        0, ge=0, description="Values stored beside each group of groups, in the compute dtype."
    )
    row_bits: float = Field(0, ge=0, description="Stored beside each output row (bits).")
    row_values: float = Field(
        0, ge=0, description="Values stored beside each output row, in the compute dtype."
    )
    tensor_bits: float = Field(0, ge=0, description="Stored beside each layer (bits).")
    tensor_values: float = Field(
        0, ge=0, description="Values stored beside each layer, in the compute dtype."
    )
    activation_bits: int | None = Field(
        None, ge=1, description="Size that a layer's inputs are rounded to, if they are (bits)."
    )
    product_rounding: float = Field(
        1, gt=0, description="How many times the usual rounding error a layer's products may have."
    )
    logit_error: float = Field(
        0, ge=0, description="Largest error of the logits, relative to the unquantized model's."
    )
    state_bits: int = Field(
        20,
        ge=0,
        description="Bits of the significand that scales and offsets in float32 need at least, "
        "unless something has rounded them.",
    )
    rounding: Rounding | None = Field(
        None, description="The format that it rounds to. Without it, base_weights has no bound."
    )
