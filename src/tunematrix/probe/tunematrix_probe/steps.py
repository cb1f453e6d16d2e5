"""Steps of optimizers: what each is given, what it costs, and what comes before it and after it."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import Any, Protocol

import torch

from .patches import is_compiling
from .records import SeenClip, SeenGroup, SeenOptimizer, SeenScaler, SeenStep
from .state import OptimizerState, ProcessState, is_sharded, plain
from .updates import rule_of


class Observer(Protocol):
    """Looks at a step of an optimizer that is looked at closely, before and after it."""

    def before(self, one: OptimizerState) -> None:
        """The step is about to be made."""

    def after(self, one: OptimizerState) -> None:
        """It has been made."""


@dataclasses.dataclass
class Draft:
    """A step, before its figures are read off an accelerator."""

    step: SeenStep
    norms: Any
    losses: list[Any]
    model_losses: list[Any]
    batches: list[Any]
    clips: list[tuple[SeenClip, Any]]

    def read(self) -> SeenStep:
        """Wait for the figures."""
        norms = self.norms
        batches = [batch.read() for batch in self.batches]
        tokenized = bool(batches) and all(b.tokenized for b in batches)
        labelled = [b.labelled for b in batches]
        clips = [
            dataclasses.replace(clip, norm=None if norm is None else float(norm))
            for clip, norm in self.clips
        ]
        return dataclasses.replace(
            self.step,
            gradient_norm=None if norms is None else sum(n * n for n in norms.values()) ** 0.5,
            zero_gradient=None if norms is None else sum(n == 0 for n in norms.values()),
            loss=_mean(self.losses),
            model_loss=_mean(self.model_losses),
            rows=sum(b.rows for b in batches) if batches else None,
            positions=sum(b.rows * b.columns for b in batches) if tokenized else None,
            tokens=sum(b.tokens for b in batches) if tokenized else None,
            labelled=None if None in labelled or not batches else sum(map(int, labelled)),
            clips=tuple(clips),
        )


def _mean(values: list[Any]) -> float | None:
    return sum(float(v) for v in values) / len(values) if values else None


class Steps:
    """Follows every optimizer through PyTorch's own hooks, and writes each of its steps."""

    def __init__(self, state: ProcessState, observers: dict[str, Observer]) -> None:
        self.state, self.observers = state, observers
        self.drafts: list[Draft] = []
        self.scaler: SeenScaler | None = None
        self.wanted: list[Any] = []
        self.first: list[Any] = []
        self._handles: list[Any] = []

    def install(self) -> None:
        """Look at every optimizer's steps."""
        from torch.optim import optimizer

        self._handles = [
            optimizer.register_optimizer_step_pre_hook(self._pre),
            optimizer.register_optimizer_step_post_hook(self._post),
        ]

    def remove(self) -> None:
        """Look at none any more."""
        for handle in self._handles:
            handle.remove()

    def _pre(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        if is_compiling():
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self.state.safely("optimizer", self._before, optimizer)
            return None
        # What it is given is only there once the closure has made its backward pass.
        self.state.optimized(optimizer).stepping = True
        own = self._followed_closure(optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": own}
        return (args[0], own, *args[2:]), kwargs

    def _followed_closure(self, optimizer: Any, closure: Any) -> Any:
        calls: list[int] = []

        def followed() -> Any:
            result = closure()
            if not calls:
                calls.append(1)
                self.state.safely("optimizer", self._before, optimizer)
            return result

        return followed

    def _post(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not is_compiling():
            self.state.safely("optimizer", self._after, optimizer)

    def _before(self, optimizer: Any) -> None:
        one = self.state.optimized(optimizer)
        one.stepping = True
        if self.state.backward:
            self.state.off.switch("gradient", "an optimizer steps inside of the backward pass")
        if one.step == 0:
            self.state.writer.write(_described(one))
        for want in self.first:
            self.state.safely("weights", want)
        if one.audit:
            for part, observer in self.observers.items():
                self.state.safely(part, observer.before, one)
        self.drafts.append(self._draft(one))

    def _draft(self, one: OptimizerState) -> Draft:
        groups = one.optimizer.param_groups
        parameters = one.parameters()
        gradients = {id(p): p.grad for p in parameters if p.grad is not None}
        now, then = self.state.counts, one.counts
        forwards, training = now.forwards - then.forwards, now.training - then.training
        step = SeenStep(
            optimizer=one.number,
            step=one.step,
            learning_rates=tuple(float(g["lr"]) for g in groups if "lr" in g),
            weight_decays=tuple(float(g.get("weight_decay") or 0.0) for g in groups),
            with_gradient=len(gradients),
            without_gradient=sum(p.requires_grad for p in parameters) - len(gradients),
            zero_gradient=None,
            gradient_norm=None,
            loss=None,
            model_loss=None,
            passes=now.passes - then.passes,
            discarded=one.discarded,
            forwards=forwards,
            rows=None,
            positions=None,
            tokens=None,
            labelled=None,
            kept=one.kept,
            zeroed=one.zeroed,
            zeroed_late=one.zeroed_late,
            schedule_calls=one.schedule_calls,
            evaluations=now.evaluations - then.evaluations,
            evaluations_training=now.evaluations_training - then.evaluations_training,
            training=training / forwards if forwards else None,
            dropouts_off=one.dropouts_off,
            clips=(),
            scaler=self.scaler,
            seconds=None,
            memory=0,
            audited=one.audit,
        )
        norms = _norms(gradients) if one.audit else None
        if norms is not None:
            one.had_some.update(key for key, norm in norms.items() if norm != 0)
        one.had_gradient.update(id(p) for p in parameters if p.grad is not None)
        return Draft(
            step, norms, one.losses, one.model_losses, one.batches, [tuple(c) for c in one.clips]
        )

    def _after(self, optimizer: Any) -> None:
        one, state = self.state.optimized(optimizer), self.state
        if not self.drafts:
            return
        draft = self.drafts[-1]
        now = time.perf_counter()
        seconds = None if one.since is None else now - one.since
        if one.audit:
            for part, observer in self.observers.items():
                state.safely(part, observer.after, one)
        memory = _memory(optimizer)
        draft.step = dataclasses.replace(draft.step, seconds=seconds, memory=memory)
        self._close(one)
        # On the CPU every figure is there; otherwise those of the step before are.
        self._read(all(p.device.type == "cpu" for p in one.parameters()[:1]))

    def _close(self, one: OptimizerState) -> None:
        state = self.state
        state.used.update(one.pending)
        one.stamps = {
            id(p): (id(p.grad), p.grad._version) for p in one.parameters() if p.grad is not None
        }
        one.step += 1
        state.steps += 1
        one.audit = state.audited_now(one.step) or one.step == one.ends or state.steps == state.ends
        state.pass_number = 0
        one.counts = dataclasses.replace(state.counts)
        one.pending, one.passes_begun, one.stepping = [], False, False
        one.discarded = one.zeroed = one.zeroed_late = one.kept = one.schedule_calls = 0
        one.losses, one.model_losses, one.batches, one.clips = [], [], [], []
        one.dropouts_off = 0
        self.scaler = None
        for want in self.wanted:
            state.safely("optimizer", want, one)
        one.since = time.perf_counter()

    def _read(self, all_of_them: bool) -> None:
        ready = self.drafts if all_of_them else self.drafts[:-1]
        self.drafts = self.drafts[len(ready) :]
        for draft in ready:
            if self.state.worth_a_line(draft.step.step) or draft.step.audited:
                self.state.writer.write(draft.read())

    def end(self) -> None:
        """Write what hasn't been read yet."""
        self._read(True)


def _described(one: OptimizerState) -> SeenOptimizer:
    optimizer = one.optimizer
    groups = tuple(
        SeenGroup(
            tensors=len(g["params"]),
            elements=sum(p.numel() for p in g["params"]),
            learning_rate=float(g.get("lr", 0.0)),
            weight_decay=float(g.get("weight_decay") or 0.0),
        )
        for g in optimizer.param_groups
    )
    name = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    return SeenOptimizer(one.number, name, rule_of(optimizer), groups)


@torch.no_grad()
def _norms(gradients: dict[int, Any]) -> dict[int, float] | None:
    """Return the 2-norm of each gradient by its parameter's id; None where one is sharded."""
    dense = {key: plain(g) for key, g in gradients.items() if not g.is_sparse}
    if not dense or any(is_sharded(g) for g in gradients.values()):
        return None
    groups: dict[Any, list[int]] = {}
    for key, gradient in dense.items():
        groups.setdefault(gradient.device, []).append(key)
    found: dict[int, float] = {}
    for keys in groups.values():
        # No copy in float32 is made, as it would be by `_foreach_norm` of bfloat16.
        norms = [
            torch.linalg.vector_norm(dense[key], dtype=_at_least_single(dense[key])) for key in keys
        ]
        found.update(zip(keys, torch.stack(norms).tolist()))
    return found


def _at_least_single(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _memory(optimizer: Any) -> int:
    """Return bytes that tensors take on the accelerator, or that the process takes."""
    device = next((p.device for g in optimizer.param_groups for p in g["params"]), None)
    if device is not None and device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    if sys.platform == "linux":
        file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(file, 256).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        finally:
            os.close(file)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
