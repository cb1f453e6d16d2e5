"""What people do with an adapter of PEFT's in memory: switch, exchange, rename and combine it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peft import PeftModel
from torch import nn

from tunematrix.evidence.events import AdapterUse
from tunematrix.stack.engines.common import AdapterLogits, Floats
from tunematrix.stack.engines.torch.methods import several

RENAMED, DOUBLED = "renamed", "doubled"
WEIGHTS = (1.5, -0.5)
"""Of one adapter and of its copy: together they are the adapter once."""


@dataclass(frozen=True)
class AdapterUser:
    """Does with a saved adapter what people do.

    Attributes:
        load: restores it onto a fresh base, as it was trained; fresh: loads that base alone.
        logits: of a model on the probe, with or without autograd; due: what they must be.
    """

    load: Callable[[], nn.Module]
    fresh: Callable[[], nn.Module]
    logits: Callable[[nn.Module, bool], Floats]
    due: AdapterLogits

    def uses(self, folder: Path) -> Iterator[AdapterUse]:
        """Yield each use, and how far its logits are from what they must be; none without PEFT."""
        model = self.load()
        if not isinstance(model, PeftModel):
            return
        with model.disable_adapter():
            # With autograd, as the base was asked: some libraries repack its weights without.
            yield self._apart("switched off by disable_adapter", model, self.due.base, True)
        yield self._apart("switched on again", model, self.due.trained)
        if len(model.active_adapters) > 1:
            return  # what follows is of one
        yield from self._exchanged(model)
        yield from self._combined(folder)

    def _exchanged(self, model: PeftModel) -> Iterator[AdapterUse]:
        """Take another adapter in its place and put it back; merge it while that one rests."""
        own = model.active_adapter
        config = model.peft_config[own]
        model.add_adapter(several.NAME, config)
        several.fill(model, several.NAME)
        yield self._apart("left beside another one, at rest", model, self.due.trained)
        model.set_adapter(several.NAME)
        self.logits(model, False)
        model.set_adapter(own)
        yield self._apart("exchanged for another one and put back", model, self.due.trained)
        model.delete_adapter(several.NAME)
        yield self._apart("alone again, the other one deleted", model, self.due.trained)

    def _combined(self, folder: Path) -> Iterator[AdapterUse]:
        """Load it twice, under names of its own, and add the two up by their weights."""
        model = PeftModel.from_pretrained(self.fresh(), str(folder), adapter_name=RENAMED)
        yield self._apart("loaded under another name", model, self.due.trained)
        if model.peft_config[RENAMED].use_dora:
            return  # PEFT combines the factors alone
        model.load_adapter(str(folder), DOUBLED)
        both = [RENAMED, DOUBLED]
        model.add_weighted_adapter(both, list(WEIGHTS), "combined", combination_type="cat")
        model.set_adapter("combined")
        yield self._apart("combined by add_weighted_adapter (cat)", model, self.due.trained)

    def _apart(
        self, what: str, model: nn.Module, due: Floats, gradient: bool = False
    ) -> AdapterUse:
        return AdapterUse(what, float(np.abs(self.logits(model, gradient) - due).max()))
