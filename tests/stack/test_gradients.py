"""Faults between a batch and the optimizer: gradients and losses that aren't those of the step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from tests.tiny import tiny_configuration
from torch import nn
from transformers import Trainer

from tunematrix.evidence.events import OptimizerStep, StepLoss
from tunematrix.faults import gradients as catalogue
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch.meters import gradients

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

Plant = Callable[[], AbstractContextManager[object]]


def _spoiling(spoil: Callable[[list[nn.Parameter]], None]) -> Plant:
    """Change gradients when all of a step's are there, before they are clipped."""

    def wrap(original: Any) -> Any:
        def clip(accelerator: Any, parameters: Any, *args: Any, **kwargs: Any) -> Any:
            trained = [p for p in parameters if p.grad is not None]
            spoil(trained)
            return original(accelerator, trained, *args, **kwargs)

        return clip

    return lambda: replaced(Accelerator, "clip_grad_norm_", wrap)


def _grad(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _swapped(trained: list[nn.Parameter]) -> None:
    """Give two tensors of a shape each other's gradient: no norm shows it."""
    one = trained[-1]
    other = next(p for p in trained if p.shape == one.shape)
    one.grad, other.grad = _grad(other), _grad(one)


def _one_turned(trained: list[nn.Parameter]) -> None:
    """Let one tensor climb."""
    _grad(trained[-1]).neg_()


def _noisy(trained: list[nn.Parameter]) -> None:
    """Add a hundredth of each tensor's largest value, up or down."""
    for parameter in trained:
        gradient = _grad(parameter)
        gradient += 0.01 * gradient.abs().max() * torch.randn_like(gradient).sign()


def _another_limit() -> AbstractContextManager[object]:
    """Clip to half of what was asked for."""

    def wrap(original: Any) -> Any:
        return lambda accelerator, parameters, limit, *args: original(
            accelerator, parameters, limit / 2, *args
        )

    return replaced(Accelerator, "clip_grad_norm_", wrap)


def _stale_batch() -> AbstractContextManager[object]:
    """Let every second micro-batch bring no gradient, and the others twice theirs."""
    calls = count()

    def wrap(original: Any) -> Any:
        def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
            original(loss * (2 if next(calls) % 2 else 0), *args, **kwargs)

        return backward

    return replaced(torch.Tensor, "backward", wrap)


ANY = tiny_configuration("unused.recipe")
"""For faults that ask nothing of a configuration."""

FAULTS: dict[str, Plant] = {
    "swapped": _spoiling(_swapped),
    "one turned": _spoiling(_one_turned),
    "noisy": _spoiling(_noisy),
    "another limit": _another_limit,
    "stale batch": _stale_batch,
    "scaled": lambda: catalogue.scaled_by_one_percent(ANY),
    "scaled from the second step on": lambda: catalogue.scaled_from_the_second_step(ANY),
}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("name", FAULTS)
def test_gradients_of_something_else(run_small: RunSmall, name: str) -> None:
    """AdamW and clipping hide most of it from losses and norms; the recomputed gradient doesn't."""
    settings: dict[str, object] = {"train__accumulation": 2, "train__batch_size": 2}
    with FAULTS[name]():
        assert "gradient" in run_small(**settings).failed


HONEST: tuple[dict[str, object], ...] = (
    {"method": "full", "train__accumulation": 2, "train__batch_size": 2},
    {"method": "lora", "method__implementation__dropout": 0.1},
    {
        "method": "lora",
        "train__gradient_checkpointing": True,
        "method__implementation__dropout": 0.1,
    },
    {"method": "custom-lora", "train__max_grad_norm": 0.0, "optimizer": "sgd"},
    {"method": "lora", "data": "packed"},
)


@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_gradients_and_losses(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Dropout draws the same again, with and without checkpointing; nothing else differs either."""
    ran = run_small(**settings)
    assert ran.failed == set()
    steps = {step.step: step for step in ran.evidence.all(OptimizerStep)}
    assert {s for s, step in steps.items() if step.gradient_error is not None} == {0, 2}
    assert all((step.gradient_error or 0) < 2e-5 for step in steps.values())
    assert {loss.step for loss in ran.evidence.all(StepLoss)} == {0, 2}


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_a_quarter_of_a_large_models_gradient(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    """Where only some tensors are followed, all of them a quarter too small show by their scale."""
    monkeypatch.setattr(gradients, "AUDITED_ELEMENTS", 100_000)
    settings: dict[str, object] = {"method": "full", "train__max_grad_norm": limit}
    assert run_small(**settings).failed == set()

    def wrap(original: Any) -> Any:
        return lambda accelerator, loss, **kwargs: original(accelerator, loss / 4, **kwargs)

    with replaced(Accelerator, "backward", wrap):
        ran = run_small(**settings)
    assert "gradient" in ran.failed
    assert ran.verdicts["gradient"].unit == "of the norm"


def test_losses_that_lag_behind(run_small: RunSmall) -> None:
    """A trainer that logs the loss of the step before is right about its first alone."""
    before: list[torch.Tensor] = []

    def wrap(original: Any) -> Any:
        def step(trainer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            before.append(original(trainer, *args, **kwargs))
            return before[max(len(before) - 2, 0)]

        return step

    with replaced(Trainer, "training_step", wrap):
        assert run_small().failed == {"step_losses"}
