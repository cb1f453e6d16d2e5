"""Faults in how an adapter is merged into weights of few bits, whose rounding hides them."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora import LoraLayer
from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt
from peft.tuners.lora.torchao import TorchaoLoraLinear

from tunematrix.faults.catalogue import fault

MERGED = "merge-quantized[*-lora-{}]"


@fault(
    "adapter",
    replaces=(Linear4bit, "get_delta_weight"),
    seen_by=(MERGED.format("bnb-nf4"),),
    fitted=True,
    subtle=True,
)
def four_bits_get_99_percent(original: Any, *args: Any) -> Any:
    """Merge 1 % less than the adapter into 4 bits of bitsandbytes.

    Stands for factors that are rounded on the way, of which 4 bits show nothing.
    """
    return original(*args) * 0.99


@fault(
    "adapter",
    replaces=(Linear8bitLt, "get_delta_weight"),
    seen_by=(MERGED.format("bnb-int8"),),
    fitted=True,
    subtle=True,
)
def every_merge_adds_more(original: Any, *args: Any) -> Any:
    """Merge 1 % more than the adapter into 8 bits of bitsandbytes.

    Stands for factors that a release computes otherwise where it merges.
    """
    return original(*args) * 1.01


@fault(
    "adapter",
    replaces=(TorchaoLoraLinear, "get_delta_weight"),
    seen_by=(MERGED.format("torchao-int8"),),
    fitted=True,
    subtle=True,
)
def one_layer_gets_98_percent(original: Any, layer: LoraLayer, *args: Any) -> Any:
    """Merge 2 % less than the adapter into torchao's layers that widen.

    Stands for layers whose factor is looked up by another name.
    """
    return original(layer, *args) * (0.98 if layer.out_features > layer.in_features else 1.0)
