"""Which weights are trained, which have changed, and whether processes agree in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from . import sampling
from .models import Model
from .records import NAMES, SeenCoverage, SeenEvaluation, SeenMoved, SeenWeights
from .state import OptimizerState, ProcessState, is_sharded, plain
from .structure import is_matrix_b


@dataclass
class Beginning:
    """What a model was when it was first seen.

    Attributes:
        digests: of each parameter, by its name; whole: whether of all of it; ids: of the tensor
            that had the name; frozen: names of those that required no gradient.
    """

    whole: bool
    digests: dict[str, int] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)


COPIES = "DeepSpeed"
"""Whose optimizer may hold copies: under other wrappers, what it lacks doesn't train."""


class Weights:
    """Compares weights with what they were, and gradients over processes."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self.beginnings: dict[int, Beginning] = {}
        self._gradients: dict[int, str] = {}
        self._new: list[Model] = []
        self.calls: Any = {}

    def model_found(self, model: Model) -> None:
        """Remember a model as it begins."""
        self._new.append(model)

    def begin(self) -> None:
        """Read how the new models begin, as the first step is about to be made.

        Not before: some quantized layers repack their weights in their first pass.
        """
        new, self._new = self._new, []
        for model in new:
            if model.inner() is not None:
                self._begin(model)

    def entered(self, model: Model) -> None:
        """A pass changes no weights."""

    def left(self, model: Model, args: Any, kwargs: Any, output: Any, outputs: Any) -> None:
        """A pass changes no weights."""

    @torch.no_grad()
    def _begin(self, model: Model) -> None:
        named = list(model.inner().named_parameters())
        begun = Beginning(sampling.fits_whole([p for _, p in named]))
        begun.digests = _digests(named, begun.whole)
        begun.frozen = {name for name, p in named if not p.requires_grad}
        self.beginnings[model.number] = begun

    def before(self, one: OptimizerState) -> None:
        """Digest the gradients that reach an optimizer, where there are several processes."""
        if _world()[1] > 1:
            found = [p.grad for p in one.parameters() if p.grad is not None]
            gradients = [g for g in found if not g.is_sparse]
            self._gradients[one.number] = _joint(gradients)

    def after(self, one: OptimizerState) -> None:
        """Write how things stand after a step that is looked at closely."""
        rank, size, backend = _world()
        if size > 1:
            parameters = [p for p in one.parameters() if p.requires_grad]
            sharded = [is_sharded(p) for p in parameters]
            # Beside sharded ones, each process keeps these by itself.
            alike = [p for p, is_part in zip(parameters, sharded) if not is_part and any(sharded)]
            odd = any(m.unaudited for m in self.state.models) or any(sharded)
            self.state.writer.write(
                SeenWeights(
                    optimizer=one.number,
                    step=one.step,
                    weights=_joint(parameters),
                    gradients=self._gradients.pop(one.number, ""),
                    whole=not odd,
                    replicated=len(alike),
                    replicated_weights=_joint(alike) if alike else "",
                    rank=rank,
                    world_size=size,
                    backend=backend,
                )
            )
        # The first two steps are as near to the beginning as to each other.
        if one.step != 1:
            self.write(last=False)

    @torch.no_grad()
    def write(self, last: bool) -> None:
        """Write what has moved, what is covered, and what evaluations there were."""
        # What a function trained may be gone with it by the time that the process ends.
        if last and any(one.step and one.optimizer is None for one in self.state.optimizers):
            return
        optimized = {id(p) for one in self.state.optimizers for p in one.parameters()}
        for model in self.state.models:
            model.optimized = model.optimized or bool(optimized & model.names().keys())
        had = set().union(*(one.had_gradient for one in self.state.optimizers))
        some = set().union(*(one.had_some for one in self.state.optimizers))
        for model in self.state.models:
            if model.inner() is not None and model.number in self.beginnings:
                self.state.writer.write(self._moved(model, optimized, some, last))
            self._write_evaluations(model)
        if any(model.inner() is not None for model in self.state.models) and optimized:
            self.state.writer.write(self._coverage(had))

    def _moved(self, model: Model, optimized: set[int], some: set[int], last: bool) -> SeenMoved:
        begun = self.beginnings[model.number]
        named = [(n, p) for n, p in model.inner().named_parameters() if n in begun.digests]
        now = _digests(named, begun.whole)
        rounded = set().union(*(one.rounded for one in self.state.optimizers))
        away = still = 0
        trained, moved, unmoved, frozen, changed, matrices, zero = 0, 0, [], 0, [], 0, []
        # ZeRO-3 lets the weights themselves come and go: they differ without having moved.
        goes = any(hasattr(p, "ds_tensor") for _, p in named)
        if _is_copied(model) and some and not goes:
            # Which tensor had a gradient can't be told, but that something must have moved.
            trained, moved = 1, int(any(now[n] != begun.digests[n] for n, _ in named))
            unmoved = [] if moved else ["all weights of the model"]
        for name, parameter in named:
            has_changed = now[name] != begun.digests[name]
            if id(parameter) in optimized and id(parameter) in some:
                trained += 1
                moved += has_changed
                if not has_changed:
                    unmoved.append(name)
                    away += id(parameter) in rounded
            elif name in begun.frozen and _stays(parameter):
                frozen += 1
                if has_changed:
                    changed.append(name)
            if is_matrix_b(name):
                is_zero = not bool(plain(parameter).any())
                matrices += parameter.requires_grad
                still += is_zero and not parameter.requires_grad
                if is_zero and parameter.requires_grad:
                    zero.append(name)
        return SeenMoved(
            model=model.number,
            step=self.state.steps,
            last=last,
            trained=trained,
            moved=moved,
            unmoved_names=tuple(unmoved[:NAMES]),
            rounded_away=away,
            adapters=matrices,
            adapters_zero=len(zero),
            adapters_frozen_zero=still,
            adapters_zero_names=tuple(zero[:NAMES]),
            frozen=frozen,
            frozen_changed=len(changed),
            frozen_changed_names=tuple(changed[:NAMES]),
            sampled=not begun.whole,
        )

    def _coverage(self, had: set[int]) -> SeenCoverage:
        optimized = {id(p): p for one in self.state.optimizers for p in one.parameters()}
        named: dict[int, tuple[str, Any]] = {}
        for model in self.state.models:
            # One that was trained by an optimizer which is gone by now is done.
            done = model.optimized and not optimized.keys() & model.names().keys()
            if model.inner() is not None and not done and not _is_copied(model):
                named.update((id(p), (n, p)) for n, p in model.inner().named_parameters())
        trainable = {key: one for key, one in named.items() if one[1].requires_grad}
        missing = [one for key, one in trainable.items() if key not in optimized]
        foreign = [p for key, p in optimized.items() if key not in named and key not in had]
        shapes = [tuple(p.shape) for _, p in missing]
        replaced = 0
        for parameter in foreign:
            if tuple(parameter.shape) in shapes:
                shapes.remove(tuple(parameter.shape))
                replaced += 1
        idle = [n for key, (n, p) in trainable.items() if key in optimized and key not in had]
        return SeenCoverage(
            step=self.state.steps,
            trainable=len(trainable),
            missing=len(missing),
            missing_elements=sum(p.numel() for _, p in missing),
            missing_names=tuple(name for name, _ in missing[:NAMES]),
            missing_alone=self._alone(),
            foreign=len(foreign),
            replaced=replaced,
            idle=len(idle),
            idle_names=tuple(idle[:NAMES]),
            idle_before=self._idle_before(set(optimized), had),
            frozen_in_groups=sum(not p.requires_grad for p in optimized.values()),
        )

    def _alone(self) -> int:
        """Count trainable tensors of models none of whose tensors is in a group."""
        alone = 0
        for model in self.state.models:
            parameters = [] if model.inner() is None else list(model.inner().parameters())
            if not model.optimized and not _is_copied(model):
                alone += sum(p.requires_grad for p in parameters)
        return alone

    def _idle_before(self, optimized: set[int], had: set[int]) -> int:
        """Count idle tensors whose module was called before one that got a gradient."""
        count = 0
        for model in self.state.models:
            called = []
            for module in [] if model.inner() is None else model.inner().modules():
                place = self.calls.get(module)
                own = [p for p in module._parameters.values() if p is not None and p.requires_grad]
                if place is not None and own:
                    called.append((place, [id(p) for p in own if id(p) in optimized]))
            last = max((place for place, ids in called if had & set(ids)), default=-1)
            count += sum(key not in had for place, ids in called if place < last for key in ids)
        return count

    def _write_evaluations(self, model: Model) -> None:
        if model.evaluations:
            self.state.writer.write(
                SeenEvaluation(
                    model=model.number,
                    step=self.state.steps,
                    passes=model.evaluations,
                    training=model.evaluations_training,
                    effective=model.evaluations_effective,
                    longest=model.longest,
                    longest_effective=model.longest_effective,
                )
            )


def _is_copied(model: Model) -> bool:
    """Whether its optimizer holds copies of its weights, of which nothing says what is whose.

    DeepSpeed's ZeRO lays each process's part of all tensors end to end.
    """
    return COPIES in model.wrappers and not model.optimized


def _stays(parameter: Any) -> bool:
    """Whether a parameter has to keep its bits: quantized ones are repacked on the way."""
    return not parameter.requires_grad and bool(parameter.is_floating_point())


def _digests(named: list[tuple[str, Any]], whole: bool) -> dict[str, int]:
    found = [sampling.digest(p, whole) for _, p in named]
    if len({f.device for f in found}) == 1:
        values = torch.stack(found).tolist() if found else []
    else:
        values = [int(f) for f in found]
    return dict(zip((name for name, _ in named), values))


@torch.no_grad()
def _joint(tensors: list[Any]) -> str:
    """Return one digest of several tensors in their order."""
    whole = sampling.fits_whole(tensors) if tensors else True
    total = 0
    for place, value in enumerate([sampling.digest(t, whole) for t in tensors]):
        total = (total * 1000003 + int(value) + place) & (2**64 - 1)
    return f"{total:016x}"


def _world() -> tuple[int, int, str]:
    """Return this process's rank, how many there are, and how they talk: as they really do."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1, ""
    size = int(distributed.get_world_size())
    return int(distributed.get_rank()), size, str(distributed.get_backend())
