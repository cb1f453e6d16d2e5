"""Dropout as it acts: what enters an adapter's layer beside what reaches its first factor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import AdapterDropout
from tunematrix.stack.engines.torch.meters.hooks import Posts, removing

LOOKS = 2
"""At each layer's first calls; later, each pass of the model is looked at in another layer."""
FIGURES = 64
"""Passes of which factors and masks are looked at."""
ELEMENTS = 4096
"""Of a row, whose masks are compared."""


class Mask:
    """What dropout did to the first elements of one row.

    Args:
        alive: which elements were other than 0 before; dropped: which of them are 0 after it.
    """

    def __init__(self, alive: torch.Tensor, dropped: torch.Tensor) -> None:
        self.alive = alive.flatten()[:ELEMENTS]
        self.dropped = dropped.flatten()[:ELEMENTS]

    def alike(self, other: Mask) -> Counter[bool]:
        """Count the elements alive in both, by whether both or none of the two were dropped."""
        size = min(len(self.alive), len(other.alive))
        both = self.alive[:size] & other.alive[:size]
        same = int((both & (self.dropped[:size] == other.dropped[:size])).sum())
        return Counter({True: same, False: int(both.sum()) - same})


class DropoutMeter:
    """Counts inputs of adapters, and how many of them dropout put to zero.

    Whatever drops them, and wherever: both ends are looked at, and not the module in between.

    Args:
        layers: adapted layers, in the order in which they take turns.
        is_ours: whether the pass that is under way is another meter's, and draws what the next
            one will draw again.
    """

    def __init__(self, layers: Sequence[nn.Module], *, is_ours: Callable[[], bool]) -> None:
        self.is_ours = is_ours
        self.layers = layers
        self.posts = Posts()
        self.turn: nn.Module | None = None
        self.passes = 0
        self.looks: Counter[int] = Counter()
        self.inputs: list[torch.Tensor] = []
        self.zeroed: list[torch.Tensor] = []
        self.entering: dict[int, torch.Tensor] = {}
        self.looked: dict[int, int] = {}
        self.masks: dict[int, tuple[int, Mask]] = {}
        self.products: list[tuple[float, float]] = []
        self.pairs: Counter[bool] = Counter()

    @torch.compiler.disable
    def began(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Look at the layer whose turn it is in a pass of the model, and at those still new."""
        trains = model.training and torch.is_grad_enabled()
        if not self.layers or not trains or self.is_ours():
            return
        self.turn = self.layers[self.passes % len(self.layers)]
        self.passes += 1
        for layer in self.layers:
            looks = layer is self.turn or self.looks[id(layer)] < LOOKS
            if looks and layer not in self.posts:
                self._look_at(layer)
            elif not looks:
                self.posts.leave(layer)

    def _look_at(self, layer: nn.Module) -> None:
        factors = first_factors(layer)
        if not factors:
            return  # what enters it would be held and never asked for
        handles = [layer.register_forward_pre_hook(self.entered)]
        handles += [f.register_forward_pre_hook(partial(self.reached, layer)) for f in factors]
        self.posts.put(layer, handles)

    def entered(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Remember what enters an adapted layer while training."""
        if not layer.training or self.is_ours():
            return
        again = self.looked.get(id(layer)) == self.passes
        if layer is self.turn or again or self.looks[id(layer)] < LOOKS:
            # Checkpointing computes a layer twice in one pass, under the same mask.
            self.looks[id(layer)] += not again
            self.looked[id(layer)] = self.passes
            self.entering[id(layer)] = args[0].detach()

    def reached(self, layer: nn.Module, factor: nn.Module, args: tuple[Any, ...]) -> None:
        """Compare it with what reaches the adapter's first factor."""
        before = self.entering.get(id(layer))
        # DoRA also sends a unit matrix through the factors, to learn their product.
        if before is None or args[0].shape != before.shape:
            return
        del self.entering[id(layer)]
        after = args[0].detach()
        self.inputs.append(before.count_nonzero())
        if after.data_ptr() == before.data_ptr() and after.stride() == before.stride():
            return  # the very tensor that entered
        alive = before != 0
        dropped = alive & (after == 0)
        self.zeroed.append(dropped.sum())
        if len(self.products) < FIGURES and dropped.any():
            kept = (before * ~dropped).double().flatten()
            self.products.append((float(kept @ after.double().flatten()), float(kept @ kept)))
            self._compare(layer, [Mask(*row) for row in zip(alive, dropped, strict=True)])

    def _compare(self, layer: nn.Module, rows: Sequence[Mask]) -> None:
        """Hold masks that should have nothing in common against each other."""
        if len(rows) > 1:
            self.pairs += rows[0].alike(rows[1])
        before, last = self.masks.get(id(layer), (self.passes, rows[0]))
        if before != self.passes:
            self.pairs += rows[0].alike(last)
        self.masks[id(layer)] = (self.passes, rows[0])

    def event(self) -> AdapterDropout:
        """Say what was counted."""
        inputs, zeroed = (sum(int(n) for n in found) for found in (self.inputs, self.zeroed))
        squares = sum(square for _, square in self.products)
        factor = sum(product for product, _ in self.products) / squares if squares else None
        compared = sum(self.pairs.values())
        return AdapterDropout(inputs, zeroed, factor, compared, self.pairs[True])


@contextmanager
def watch(model: nn.Module, meter: DropoutMeter) -> Iterator[None]:
    """Let `meter` see all of PEFT's adapters among its layers meanwhile, as `model` is called."""
    try:
        with removing(model.register_forward_pre_hook(meter.began)):
            yield
    finally:
        meter.posts.leave_all()


def first_factors(layer: nn.Module) -> list[nn.Module]:
    """Return the modules that an adapted layer's input reaches first; PEFT has one an adapter."""
    found = getattr(layer, "lora_A", None)
    return list(found.values()) if isinstance(found, nn.ModuleDict) else []
