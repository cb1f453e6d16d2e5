"""What people do with an adapter of PEFT's in memory: switch, exchange, rename and combine it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from tunematrix.evidence.events import AdapterUse
from tunematrix.stack.engines.common import AdapterLogits, Floats
from tunematrix.stack.engines.torch.meters import merged
from tunematrix.stack.engines.torch.meters.weights import is_turned
from tunematrix.stack.engines.torch.methods import several
from tunematrix.stack.releases import merge_safely

RENAMED, DOUBLED = "renamed", "doubled"
WEIGHTS = (1.5, -0.5)
"""Of one adapter and of its copy: together they are the adapter once."""


@dataclass(frozen=True)
class AdapterUser:
    """Does with a saved adapter what people do.

    Attributes:
        load: restores it onto a fresh base, as it was trained; fresh: loads that base alone.
        logits: of a model on the probe, with or without autograd; due: what they must be.
        merges: whether the base is stored so that merging loses nothing.
        embedding: the name of the base's embedding of tokens.
    """

    load: Callable[[], nn.Module]
    fresh: Callable[[], nn.Module]
    logits: Callable[[nn.Module, bool], Floats]
    due: AdapterLogits
    merges: bool
    embedding: str

    def uses(self, folders: Mapping[str, Path]) -> Iterator[AdapterUse]:
        """Yield each use, and how far its logits are from what they must be; none without PEFT.

        Args:
            folders: where each active adapter was saved, the trained one first.
        """
        model = self.load()
        if not isinstance(model, PeftModel):
            return
        with model.disable_adapter():
            # With autograd, as the base was asked: some libraries repack its weights without.
            yield self._apart("switched off by disable_adapter", model, self.due.base, True)
        yield self._apart("switched on again", model, self.due.trained)
        if self.merges:
            yield from self._merged()
        if len(folders) > 1:
            if self.merges and all(_is_of_layers(model, name) for name in folders):
                yield from self._one_by_one(model, folders)
            return  # what follows is of one
        yield from self._exchanged(model)
        yield from self._combined(next(iter(folders.values())))

    def _merged(self) -> Iterator[AdapterUse]:
        """Merge all that is active in memory, switch it off meanwhile, and take it out again."""
        model = self.load()
        assert isinstance(model, PeftModel)
        merge_safely(model)
        yield self._apart("merged in memory", model, self.due.trained)
        with model.disable_adapter():
            yield self._apart("merged in memory and switched off", model, self.due.base)
        yield self._apart("switched on again after that", model, self.due.trained)
        merge_safely(model)
        model.unmerge_adapter()
        yield self._apart("merged in memory and taken out again", model, self.due.trained)

    def _one_by_one(self, model: PeftModel, folders: Mapping[str, Path]) -> Iterator[AdapterUse]:
        """Let one of several take part alone: made the active one, or merged without the others."""
        alone = {name: self._by_formula(folder) for name, folder in folders.items()}
        for name, due in alone.items():
            model.set_adapter(name)
            yield self._apart(f"made the only active one ({name})", model, due)
        model.base_model.set_adapter([*folders])
        yield self._apart("made active again beside another", model, self.due.trained)
        for name, due in alone.items():
            other = self.load()
            assert isinstance(other, PeftModel)
            left = other.merge_and_unload(adapter_names=[name])
            yield self._apart(f"merged without the other one ({name})", left, due)

    def _by_formula(self, folder: Path) -> Floats:
        """Return the logits of a base whose weights are those of one adapter, by its formula."""
        model = self.fresh()
        layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "weight")}
        found = merged.of_linears(folder, [*layers])
        found |= merged.of_embedding(folder, self.embedding)
        with torch.no_grad():
            for name, factors in found.items():
                weight = layers[name].get_parameter("weight")
                turned = is_turned(layers[name])
                due = factors.merged_into((weight.T if turned else weight).float().cpu())
                weight.copy_(due.T if turned else due)
        return self.logits(model, False)

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


def _is_of_layers(model: PeftModel, name: str) -> bool:
    """Whether an adapter is all in the weights of layers, and none of it in modules or biases."""
    config = model.peft_config[name]
    return not config.modules_to_save and config.bias == "none"
