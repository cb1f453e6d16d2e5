"""Tensors that are saved, beside those of the models in memory at that moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import torch

from . import sampling, waiting
from .models import Model, Models
from .patches import Patches
from .records import NAMES, SeenSaved
from .state import ProcessState, is_sharded, plain
from .weights import Weights

PREFIXES = ("module.", "_orig_mod.", "base_model.model.", "model.", "base_model.")
INFIXES = (".default", "._orig_mod", "._fsdp_wrapped_module", "._checkpoint_wrapped_module")
KEYS = ("model", "state_dict", "model_state_dict", "module", "net", "weights")
"""Under which a dictionary of more holds a model's weights."""
LARGEST = 64
"""Files that are looked at."""
Known = dict[str, tuple[Any, str, int]]
"""Parameters by their short names, with their name and the number of their model."""


class Saving:
    """Looks at what `torch.save` and safetensors are about to write."""

    def __init__(self, state: ProcessState, models: Models, weights: Weights) -> None:
        self.state, self.models, self.weights = state, models, weights
        self.files = 0

    def install(self, patches: Patches) -> None:
        """Look at both now, or once they are imported."""
        # Hooks of ours must not be pickled with a model that is saved as a whole.
        patches.around("saving", torch, "save", self._saving, self._saved, self.models.rehook)
        # Imported names of torch.save's own module are the same function.
        patches.around(
            "saving", torch.serialization, "save", self._saving, self._saved, self.models.rehook
        )

        def arrived() -> None:
            library: Any = sys.modules["safetensors.torch"]
            patches.around("saving", library, "save_file", self._file)

        waiting.call_after("safetensors.torch", arrived)

    def _saving(self, thing: Any, place: Any = None, *args: Any, **kwargs: Any) -> None:
        self.models.unhook()
        tensors = _tensors(thing)
        if tensors:
            name = place if isinstance(place, (str, os.PathLike)) else ""
            self.state.safely("saving", self._compare, tensors, name, "torch.save")

    def _saved(self, result: Any, *args: Any, **kwargs: Any) -> None:
        self.models.rehook()

    def _file(self, tensors: Any, filename: Any = "", *args: Any, **kwargs: Any) -> None:
        if isinstance(tensors, Mapping):
            self.state.safely("saving", self._compare, dict(tensors), filename, "safetensors")

    @torch.no_grad()
    def _compare(self, tensors: dict[str, Any], name: Any, way: str) -> None:
        if self.files >= LARGEST or not self.state.steps:
            return
        found = [self._matched(model, tensors) for model in self.state.models]
        known, matched = max(found, key=lambda one: len(one[1]), default=({}, {}))
        if not matched:
            return
        self.files += 1
        differing = [k for k, (saved, p, _, _) in matched.items() if not _same(saved, p)]
        as_begun = sum(self._as_at_start(matched[key]) for key in differing)
        short = {_short(key) for key in matched}
        optimized = {id(p) for one in self.state.optimizers for p in one.parameters()}
        trained = {
            name_of: p
            for name_of, (p, _, _) in known.items()
            if p.requires_grad and id(p) in optimized
        }
        missing = _missing(trained, short)
        self.state.writer.write(
            SeenSaved(
                name=os.path.basename(os.fspath(name)) if name else "",
                way=way,
                step=self.state.steps,
                tensors=len(tensors),
                matched=len(matched),
                differing=len(differing),
                differing_names=tuple(differing[:NAMES]),
                as_at_start=as_begun,
                not_finite=sum(_is_broken(t) for t in tensors.values()),
                trained=len(trained),
                missing=len(missing),
                missing_names=tuple(missing[:NAMES]),
                cast=sum(saved.dtype != p.dtype for saved, p, _, _ in matched.values()),
            )
        )

    def _matched(self, model: Model, tensors: dict[str, Any]) -> tuple[Known, dict[str, Any]]:
        """Return a model's parameters by their short names, and the saved tensors that are some.

        Where two models have the same names, only one has the same values: those count first.
        """
        inner = model.inner()
        if inner is None or any(map(is_sharded, inner.parameters())):
            return {}, {}
        known: Known = {}
        for name, parameter in inner.named_parameters(remove_duplicate=False):
            known.setdefault(_short(name), (parameter, name, model.number))
        matched = {
            key: (tensor, *known[_short(key)])
            for key, tensor in tensors.items()
            if _short(key) in known and known[_short(key)][0].shape == tensor.shape
        }
        if len(self.state.models) > 1 and not any(_same(t, p) for t, p, _, _ in matched.values()):
            return known, {}
        return known, matched

    def _as_at_start(self, one: tuple[Any, Any, str, int]) -> bool:
        saved, parameter, name, model = one
        begun = self.weights.beginnings.get(model)
        if begun is None or name not in begun.digests or saved.dtype != parameter.dtype:
            return False
        return int(sampling.digest(saved, begun.whole)) == begun.digests[name]


def _tensors(thing: Any) -> dict[str, Any]:
    """Return the weights in what is saved: a model, its state, or a dictionary with that in it."""
    if isinstance(thing, torch.nn.Module):
        return dict(thing.named_parameters())
    if not isinstance(thing, Mapping):
        return {}
    own = {k: v for k, v in thing.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if own:
        return own
    return next((found for key in KEYS if (found := _tensors(thing.get(key)))), {})


def _short(name: str) -> str:
    """Return a parameter's name without what wrappers put into it."""
    for part in INFIXES:
        name = name.replace(part, "")
    shortened = True
    while shortened:
        shortened = False
        for prefix in PREFIXES:
            if name.startswith(prefix):
                name, shortened = name[len(prefix) :], True
    return name


def _missing(trained: dict[str, Any], short: set[str]) -> list[str]:
    """Return trained parameters that weren't saved under any of their names."""
    saved = {id(trained[name]) for name in short if name in trained}
    return [name for name, p in trained.items() if name not in short and id(p) not in saved]


def _same(saved: torch.Tensor, parameter: Any) -> bool:
    own = plain(parameter)
    if saved.device == own.device and saved.data_ptr() == own.data_ptr() and saved.numel():
        return True
    own = own.to(saved.dtype)
    if saved.device != own.device:
        own = own.to(saved.device)
    # What isn't a number equals itself here.
    return bool(torch.equal(saved, own)) or bool(
        ((saved == own) | (saved.ne(saved) & own.ne(own))).all()
    )


def _is_broken(tensor: Any) -> bool:
    return bool(tensor.is_floating_point()) and not bool(tensor.detach().isfinite().all())
