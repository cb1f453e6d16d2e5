"""Meters that look seldom, or at many tensors at once: what they do see, and what they let be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from transformers import Trainer

from tunematrix.configuration.options import OptimizerOption
from tunematrix.evidence.events import OptimizerStep
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import scoring
from tunematrix.stack.engines.torch.meters import compute, continuity, copies, optimizer
from tunematrix.stack.engines.torch.meters.gradients import Comparison
from tunematrix.stack.engines.torch.training import OPTIMIZERS
from tunematrix.stack.yardsticks.audit import Formula

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

LATE = 4
"""Passes after which each layer has had its first looks."""


@contextmanager
def _last_dropout_becomes(module: nn.Module) -> Iterator[None]:
    """Put `module` into the last adapter when the first passes are over."""
    calls = count()

    def wrap(original: Any) -> Any:
        def step(trainer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            if next(calls) == LATE:
                adapters = [m for m in trainer.model.modules() if hasattr(m, "lora_dropout")]
                adapters[-1].lora_dropout["default"] = module
            found: torch.Tensor = original(trainer, *args, **kwargs)
            return found

        return step

    with replaced(Trainer, "training_step", wrap):
        yield


@pytest.mark.parametrize(("share", "found"), [(0.2, True), (0.0, False)])
def test_dropout_that_begins_late_in_one_layer(
    run_small: RunSmall, share: float, found: bool
) -> None:
    """Layers take turns, so that each has been looked at once there were as many passes."""
    with _last_dropout_becomes(nn.Dropout(share)):
        ran = run_small(train__max_steps=LATE + 14)
    assert ("adapter_dropout" in ran.failed) is found
    assert found or ran.failed == set()


def test_layers_keep_no_hook_for_longer_than_they_are_looked_at() -> None:
    """Asked again, the meter sees what a layer has begun to compute in since."""
    layer = nn.Linear(2, 2)
    model, rows = nn.Sequential(layer), torch.ones(1, 2)
    meter = compute.ComputeMeter(is_ours=lambda: False)
    with compute.watch(model, [layer], meter):
        for _ in range(compute.LOOKS):
            assert len(layer._forward_hooks) == len(layer._forward_pre_hooks) == 1
            model(rows)
        assert len(layer._forward_hooks) == len(layer._forward_pre_hooks) == 0
        layer.bfloat16()
        model(rows.bfloat16())
        assert meter.outputs == {"float32"}
        meter.look()
        model(rows.bfloat16())
        assert meter.outputs == {"float32", "bfloat16"}
    assert len(layer._forward_hooks) == len(layer._forward_pre_hooks) == 0


def test_what_was_off_stays_off() -> None:
    """A module that its trainer has put into evaluation mode is in it afterwards too."""
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with scoring.evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def _nothing(weights: torch.Tensor) -> None:
    pass


def _sign(weights: torch.Tensor) -> None:
    """Turn 0 into -0, which equals it."""
    weights[1] = -0.0


def _other_nan(weights: torch.Tensor) -> None:
    """Change a bit of what is not a number."""
    weights.view(torch.int32)[0] += 1


@pytest.mark.parametrize(
    ("meddle", "dtypes"),
    [
        (_nothing, [torch.float32]),
        (_nothing, [torch.float32, torch.bfloat16]),
        (_sign, [torch.float32]),
        (_other_nan, [torch.float32, torch.bfloat16]),
    ],
)
def test_bits_and_not_values_are_compared(
    meddle: Callable[[torch.Tensor], None], dtypes: list[torch.dtype]
) -> None:
    """What is not a number, as after a loss that diverged, is the same as long as its bits are."""
    model = nn.ParameterList([nn.Parameter(torch.zeros(5, dtype=dtype)) for dtype in dtypes])
    first = model[0]
    with torch.no_grad():
        first[0] = torch.nan
    copied = copies.StepCopies(model)
    meter = continuity.ContinuityMeter(copied)
    with copies.watch(copied), continuity.watch(meter):
        trainer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
        for _ in range(2):
            for parameter in model:
                parameter.grad = torch.zeros_like(parameter)
            trainer.step()
        meddle(first.data)
    broken = () if meddle is _nothing else ("parameters after step 1",)
    assert meter.event().broken == broken


def _steps(formula: Formula) -> list[OptimizerStep]:
    """Take steps with parameters of two rates, two dtypes, decaying and not."""
    draws = torch.Generator().manual_seed(0)
    layers = {"first": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "last": nn.Linear(4, 2).double()}
    model = nn.ModuleDict(layers)
    kept = [p for name, p in model.named_parameters() if optimizer.UNDECAYED.search(name)]
    decay = formula.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [layers["first"].weight], "lr": 0.1, "weight_decay": decay},
        {"params": [layers["last"].weight], "lr": 0.02, "weight_decay": decay},
        {"params": kept, "lr": 0.1, "weight_decay": 0.0},
    ]
    settings: dict[str, Any] = {"momentum": 0.9} if formula.name == "sgd" else {}
    trainer = OPTIMIZERS[formula.name](groups, **settings)
    written: list[OptimizerStep] = []
    with optimizer.watch(model, formula, lambda *_: Comparison(), written.append):
        for _ in range(6):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws).to(parameter.dtype)
            trainer.step()
    return written


def _formula(name: str, **settings: float) -> Formula:
    rate = "plain" if name == "sgd" else "adaptive"
    option = OptimizerOption.model_validate({"name": name, "rate": rate, **settings})
    return Formula(name, option, weight_decay=0.3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_several_rates_follow_their_formula(name: str) -> None:
    """Parameters that step alike are recomputed together; the rest isn't mixed up with them."""
    steps = _steps(_formula(name, momentum=0.9))
    assert [step.moved for step in steps] == [1.0, 1.0, 1.0, None, None, None]
    assert all(step.deviation is not None and step.deviation < 1e-4 for step in steps)


@pytest.mark.parametrize(
    ("formula", "first"),
    [
        (_formula("adamw", beta1=0.8), 1),  # a first step is that of any betas
        (_formula("adam", eps=1e-2), 0),
        (_formula("sgd", momentum=0.8), 1),
    ],
)
def test_steps_of_another_formula(formula: Formula, first: int) -> None:
    """Each step that isn't what it should be shows, in those tensors as well that are left late."""
    steps = _steps(formula)
    assert all(step.deviation is not None and step.deviation > 1e-3 for step in steps[first:])
