"""Tensors that stay in memory beside a model: copies, graphs, caches that nobody lets go."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tunematrix.evidence.events import Held
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.meters.storage import all_stored
from tunematrix.stack.quantizers.common import TorchQuantizer

OWN = ("tunematrix.", "tunematrix_probe.")
"""Begin the names of modules whose objects are looked into."""
PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
"""Types of what holds no tensor: a meter's lists have thousands, and each would be looked at."""
PROBE = "tunematrix_probe.watching"
"""The module that has what `tunematrix watch` puts into this process, if it does."""


class HeldMeter:
    """Leaves out what was in memory before it was made: cells may share a process."""

    def __init__(self) -> None:
        self.others = [(place, StorageWeakRef(one)) for place, one in _alive().items()]

    def measure(
        self,
        model: nn.Module,
        quantizer: TorchQuantizer,
        when: str,
        known: Iterable[torch.Tensor] = (),
    ) -> Held:
        """Count the bytes of tensors but those of `model` and its gradients, each storage once.

        `known` are others that may be there, such as an optimizer's moments.
        """
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        known = (*known, *tensors_in([_probe()]))
        own = set(_storages((*all_stored(model, quantizer), *gradients, *known)))
        # Where one of them has gone, something else may have come.
        own |= {place for place, one in self.others if not one.expired()}
        return Held(when, sum(s.nbytes() for place, s in _alive().items() if place not in own))


class DuringMeter:
    """Looks at the end of the last step, when no pass is under way and the trainer is still there.

    Args:
        measure: counts what is held, but for known tensors. last: that step, from 0.
        meters: whose own tensors nobody else keeps.
    """

    def __init__(
        self,
        measure: Callable[[Iterable[torch.Tensor]], Held],
        last: int,
        meters: Sequence[object],
    ) -> None:
        self.measure, self.last, self.meters = measure, last, meters
        self.step = 0
        self.seen: list[Held] = []

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count at the end of the last step."""
        if self.step == self.last:
            moments = tensors_in(list(optimizer.state.values()))
            self.seen = [self.measure([*moments, *tensors_in(list(self.meters))])]
        self.step += 1


@contextmanager
def watch(meter: DuringMeter) -> Iterator[None]:
    """Let `meter` see the steps of any optimizer meanwhile."""
    with around_steps(lambda *_: None, meter.after):
        yield


def _probe() -> object:
    """Return what watches this process from `tunematrix watch`, if anything does."""
    return getattr(sys.modules.get(PROBE), "_now", None)


def tensors_in(roots: Sequence[object]) -> list[torch.Tensor]:
    """Return the tensors in containers and in objects of our own, however deep."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    left = list(roots)
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, nn.Module):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, Mapping):
            left += _holders((*one.keys(), *one.values()))
        elif isinstance(one, list | tuple | set):
            left += _holders(one)
        elif type(one).__module__.startswith(OWN):
            left += _holders(vars(one).values()) if hasattr(one, "__dict__") else ()
    return found


def _holders(objects: Iterable[object]) -> list[object]:
    return [one for one in objects if type(one) not in PLAIN]


def _alive() -> dict[int, torch.UntypedStorage]:
    gc.collect()
    everything = gc.get_objects()
    # Some libraries' lazy objects answer isinstance by importing what they stand for; and there
    # are far fewer types than objects.
    kinds = {kind for kind in set(map(type, everything)) if issubclass(kind, torch.Tensor)}
    return _storages(one for one in everything if type(one) in kinds)


def _storages(tensors: Iterable[torch.Tensor]) -> dict[int, torch.UntypedStorage]:
    """Return the memory of `tensors`, by where it begins."""
    storages = {}
    for tensor in tensors:
        # A quantized tensor holds none itself: those inside do, which are among `tensors` too.
        if _stands_for_another(tensor) or tensor.layout != torch.strided:
            continue
        storage = tensor.untyped_storage()
        if storage.device.type != "meta":  # as that of what torch.compile traces with
            storages[storage.data_ptr()] = storage
    storages.pop(0, None)  # on meta, and empty ones
    return storages


def _stands_for_another(tensor: torch.Tensor) -> bool:
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped or is_traceable_wrapper_subclass(tensor)
