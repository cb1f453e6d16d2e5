"""What the probe knows of the process: its models, its optimizers, and what it has counted."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field
from typing import Any, Callable

import torch

from .writer import Off, Writer

LINES = 4096
"""Lines of a kind that are written in full; of what follows, every so many-th."""


@dataclass
class Counts:
    """Figures that only grow; a step's is the difference to that of the step before.

    Attributes:
        passes: backward passes; forwards: forward passes with gradients to come, in training: of
            these; losses and model_losses: sums of what backward passes began from and of what
            models returned, with how many each has; rows, positions, tokens, labelled: in batches.
        evaluations: forward passes without gradients; evaluations_training: of these, in training
            mode, where that matters.
    """

    passes: int = 0
    forwards: int = 0
    training: int = 0
    evaluations: int = 0
    evaluations_training: int = 0
    zeroed: int = 0


@dataclass
class OptimizerState:
    """An optimizer, and what has happened to it.

    Attributes:
        number: in the order of first steps or calls; step: how many steps it has made.
        audit: whether its next step is to be looked at closely; ends: step that is likely its last
            one, by a schedule of it; None: not known.
        counts: as they stood at its last step; since: when that ended, in seconds.
        pending: backward passes since its gradients were last used or zeroed.
        passes_begun: whether there was one since its last step; stepping: whether it is at one.
        version: of its first parameters together, after the last backward pass.
        discarded, zeroed, zeroed_late, kept, schedule_calls: since its last step.
        stamps: id and version of each gradient as the last step ended, by id of the parameter.
        had_gradient: ids of parameters whose gradient was there in some step; had_some: wasn't zero
            in one that was looked at closely; rounded: whose last update was too small to be added.
    """

    number: int
    ref: Any
    step: int = 0
    audit: bool = True
    ends: int | None = None
    counts: Counts = field(default_factory=Counts)
    since: float | None = None
    pending: list[int] = field(default_factory=list)
    passes_begun: bool = False
    stepping: bool = False
    version: int = 0
    discarded: int = 0
    zeroed: int = 0
    zeroed_late: int = 0
    kept: int = 0
    schedule_calls: int = 0
    stamps: dict[int, tuple[int, int]] = field(default_factory=dict)
    had_gradient: set[int] = field(default_factory=set)
    had_some: set[int] = field(default_factory=set)
    rounded: set[int] = field(default_factory=set)
    losses: list[Any] = field(default_factory=list)
    model_losses: list[Any] = field(default_factory=list)
    batches: list[Any] = field(default_factory=list)
    dropouts_off: int = 0
    clips: list[Any] = field(default_factory=list)

    @property
    def optimizer(self) -> Any:
        """The optimizer itself, while it lives."""
        return self.ref()

    def parameters(self) -> list[Any]:
        """All parameters of its groups."""
        optimizer = self.ref()
        groups = [] if optimizer is None else optimizer.param_groups
        return [p for group in groups for p in group["params"]]


class ProcessState:
    """The process's own, one for each call of `start`.

    Attributes:
        writer: of records; off: what has been switched off.
        busy: whether the probe itself is computing; nothing is looked at meanwhile.
        backward: how many backward passes are under way, one inside of another.
        optimizers: that have been seen; models: that were called, see `models`.
        steps: of all optimizers together; pass_number: of forward passes since the last of them.
        used: backward passes whose gradients some step used.
        ends: step of all optimizers together that is the last one, by the trainer that makes them.
    """

    def __init__(self, folder: str) -> None:
        self.writer = Writer(folder)
        self.off = Off(self.writer)
        self.began = time.time()
        self.busy = False
        self.backward = 0
        self.counts = Counts()
        self.steps = 0
        self.ends: int | None = None
        self.pass_number = 0
        self.used: set[int] = set()
        self.optimizers: list[OptimizerState] = []
        self.models: list[Any] = []
        self._by_id: dict[int, OptimizerState] = {}

    def safely(self, part: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a part of the probe; an error switches that part off and goes no further."""
        if part in self.off.parts or self.busy:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.off.fell_over(part, error, self.steps)
            return None

    def inside(self, part: str, function: Callable[..., Any], *args: Any) -> Any:
        """Do the same while the probe is computing."""
        busy, self.busy = self.busy, False
        try:
            if part in self.off.parts:
                return None
            self.busy = True
            return function(*args)
        except Exception as error:
            self.off.fell_over(part, error, self.steps)
            return None
        finally:
            self.busy = busy

    def optimized(self, optimizer: Any) -> OptimizerState:
        """Return what is known of an optimizer, a new one included, whatever stands for it."""
        optimizer = inner_of(optimizer)
        known = self._by_id.get(id(optimizer))
        if known is None or known.ref() is not optimizer:
            known = OptimizerState(len(self.optimizers), weakref.ref(optimizer))
            self.optimizers.append(known)
            self._by_id[id(optimizer)] = known
        return known

    @property
    def auditing(self) -> bool:
        """Whether some optimizer's next step is to be looked at closely."""
        return any(one.audit for one in self.optimizers if one.ref() is not None)

    def audited_now(self, step: int) -> bool:
        """Whether a step, from 0, is looked at closely: the first two, then ever more seldom."""
        return step < 2 or (step & (step + 1)) == 0

    def worth_a_line(self, number: int) -> bool:
        """Whether the line of this number, from 0, is written: all at first, fewer later."""
        return number < LINES or number % (1 << (number // LINES).bit_length()) == 0


def plain(tensor: Any) -> torch.Tensor:
    """Return what this process holds of a tensor, without its graph: of a shard, its own part."""
    local = getattr(tensor, "_local_tensor", tensor)
    return local.detach()


def is_sharded(tensor: Any) -> bool:
    """Whether other processes hold parts of a tensor."""
    return hasattr(tensor, "_local_tensor")


def inner_of(optimizer: Any) -> Any:
    """Return the optimizer that accelerate's or Fabric's own stands for."""
    for name in ("optimizer", "_optimizer"):
        inner = vars(optimizer).get(name)
        if hasattr(inner, "param_groups"):
            return inner_of(inner)
    return optimizer
