"""Faults between two optimizer steps, and those that begin when nobody looks any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import Trainer

from tunematrix.evidence.events import Continuity, OptimizerStep
from tunematrix.faults.patching import replaced

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

Meddle = Callable[[Trainer], None]


@contextmanager
def _meddling(meddle: Meddle, *, after: int = 0) -> Iterator[None]:
    """Do something to a trainer before each of its passes, once some are over."""
    calls = count()

    def wrap(original: Any) -> Any:
        def step(trainer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            if next(calls) >= after:
                meddle(trainer)
            found: torch.Tensor = original(trainer, *args, **kwargs)
            return found

        return step

    with replaced(Trainer, "training_step", wrap):
        yield


def _last(trainer: Trainer) -> torch.nn.Parameter:
    return [p for p in trainer.model.parameters() if p.requires_grad][-1]


def _nudge(trainer: Trainer) -> None:
    """Move one element a little, as clamping or tying would."""
    _last(trainer).data.view(-1)[3] += 1e-6


def _round(trainer: Trainer) -> None:
    """Let a tensor lose what bfloat16 doesn't hold."""
    parameter = _last(trainer)
    parameter.data = parameter.data.bfloat16().float()


def _forget(trainer: Trainer) -> None:
    """Let a moment fade."""
    state = trainer.optimizer.state.get(_last(trainer), {})
    if "exp_avg" in state:
        state["exp_avg"] *= 0.99


def _replace(trainer: Trainer) -> None:
    """Put another tensor in a moment's place, and leave the first as it was."""
    state = trainer.optimizer.state.get(_last(trainer), {})
    if "exp_avg" in state:
        state["exp_avg"] = 0.99 * state["exp_avg"]


def _move(trainer: Trainer) -> None:
    """Let a parameter point to other memory, which holds a little else."""
    parameter = _last(trainer)
    parameter.data = parameter.data * (1 + 1e-6)


def _swap(trainer: Trainer) -> None:
    """Exchange two rows: a plain sum wouldn't notice."""
    with torch.no_grad():
        weights = _last(trainer)
        weights[:2] = weights[:2].flip(0).clone()


@pytest.mark.parametrize("meddle", [_nudge, _round, _forget, _replace, _move, _swap])
def test_what_changes_between_steps(run_small: RunSmall, meddle: Meddle) -> None:
    """The gradient is that of the changed weights, and the step after follows its formula."""
    with _meddling(meddle, after=1):
        assert "continuity" in run_small().failed


def _other_betas(trainer: Trainer) -> None:
    for group in trainer.optimizer.param_groups:
        group["betas"] = (0.5, 0.999)


def _decaying(trainer: Trainer) -> None:
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.1


@pytest.mark.parametrize("meddle", [_other_betas, _decaying])
def test_settings_that_change_late(run_small: RunSmall, meddle: Meddle) -> None:
    """Every step is recomputed, of a few tensors."""
    with _meddling(meddle, after=5):
        assert "optimizer_update" in run_small(train__max_steps=7).failed


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
def test_small_last_steps_are_honest(run_small: RunSmall, scheduler: str) -> None:
    """A rate that comes down to next to nothing leaves little but rounding to an update."""
    ran = run_small("full", scheduler=scheduler, train__max_steps=20)
    assert ran.failed == set()
    seen = ran.evidence.one(Continuity)
    assert seen == Continuity(21, ())
    assert all(step.deviation is not None for step in ran.evidence.all(OptimizerStep))
