"""What is written down of a model that a step of a pipeline has exported."""

from __future__ import annotations

from dataclasses import dataclass

from tunematrix.evidence.events.adapter import AdapterShare
from tunematrix.evidence.events.model import BaseWeights


@dataclass(frozen=True)
class StepExported:
    """What a step has exported, loaded again from files alone, beside the model in memory.

    Attributes:
        largest: absolute logit over fixed tokens; difference: largest of both models' logits.
    """

    name: str
    largest: float
    difference: float


@dataclass(frozen=True)
class StepKept:
    """The weights of what a step has exported, beside the base's files with the adapter's added.

    Attributes:
        weights: of the exported model, loaded again.
        shares: of the adapter, in it; merged: of the adapter, in the merged model in float32 that
            it was quantized from. Both are empty without an adapter; the latter also where nothing
            was quantized.
    """

    name: str
    weights: BaseWeights
    shares: tuple[AdapterShare, ...]
    merged: tuple[AdapterShare, ...]
