"""Dropout as it acts: what enters an adapter's layer beside what reaches its first factor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import AdapterDropout

LOOKS = 2
"""Of the first passes of each layer; later passes are looked at in one layer after the other."""


class DropoutMeter:
    """Counts inputs of adapters, and how many of them dropout put to zero.

    Whatever drops them, and wherever: both ends are looked at, and not the module in between.

    Args:
        layers: adapted layers, in the order in which they take turns.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.turns = {id(layer): turn for turn, layer in enumerate(layers)}
        self.passes: Counter[int] = Counter()
        self.inputs: list[torch.Tensor] = []
        self.zeroed: list[torch.Tensor] = []
        self.entering: dict[int, torch.Tensor] = {}

    def entered(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Remember what enters an adapted layer while training."""
        if not layer.training:
            return
        count, turn = self.passes[id(layer)], self.turns[id(layer)]
        self.passes[id(layer)] += 1
        if count < LOOKS or count % len(self.layers) == turn:
            self.entering[id(layer)] = args[0].detach()

    def reached(self, layer: nn.Module, factor: nn.Module, args: tuple[Any, ...]) -> None:
        """Compare it with what reaches the adapter's first factor."""
        before = self.entering.get(id(layer))
        # DoRA also sends a unit matrix through the factors, to learn their product.
        if before is None or args[0].shape != before.shape:
            return
        del self.entering[id(layer)]
        alive = before != 0
        self.inputs.append(alive.sum())
        self.zeroed.append((alive & (args[0].detach() == 0)).sum())

    def event(self) -> AdapterDropout:
        """Say what was counted."""
        return AdapterDropout(*(sum(int(n) for n in found) for found in (self.inputs, self.zeroed)))


@contextmanager
def watch(meter: DropoutMeter) -> Iterator[None]:
    """Let `meter` see all of PEFT's adapters among its layers meanwhile."""
    handles = []
    for layer in meter.layers:
        handles.append(layer.register_forward_pre_hook(meter.entered))
        handles += [
            factor.register_forward_pre_hook(partial(meter.reached, layer))
            for factor in first_factors(layer)
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_factors(layer: nn.Module) -> list[nn.Module]:
    """Return the modules that an adapted layer's input reaches first; PEFT has one an adapter."""
    found = getattr(layer, "lora_A", None)
    return list(found.values()) if isinstance(found, nn.ModuleDict) else []
