"""Evaluations by the trainer itself, on the way: they happen, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import Trainer
from trl import SFTTrainer

from tunematrix.evidence.events import LoggedEvaluation

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall, Small

SETTINGS = {"train__max_steps": 5, "meters__tensors": True}
DROPOUT = {"method__implementation__dropout": 0.1}
EVALUATED = {"train__eval_steps": 2}


def differing(one: Small, other: Small) -> set[str]:
    """Name the kinds of tensors that aren't bitwise equal."""
    assert one.tensors.keys() == other.tensors.keys()
    return {
        key.kind
        for key, tensor in one.tensors.items()
        if not np.array_equal(tensor, other.tensors[key])
    }


@pytest.mark.each_time(1)
@pytest.mark.parametrize("data", ["text", "chat", "packed"])
def test_evaluating_changes_nothing_that_draws_nothing(run_small: RunSmall, data: str) -> None:
    """Without dropout, training goes on to the bit as it would have, over several epochs."""
    rows = {} if data == "packed" else {"train__rows": 8}
    plain = run_small(**SETTINGS, **rows, data=data)
    evaluated = run_small(**SETTINGS, **EVALUATED, **rows, data=data)
    assert plain.failed == evaluated.failed == set()
    assert {2, 4} <= {e.step for e in evaluated.evidence.all(LoggedEvaluation)}
    assert not plain.evidence.all(LoggedEvaluation)
    assert differing(plain, evaluated) == {"random"}


def test_evaluating_draws_other_dropout(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch draws a number for each pass over data, shuffled or not; that, and no more, shows.

    https://github.com/pytorch/pytorch/issues/36998
    """
    plain = run_small(**SETTINGS, **DROPOUT)
    evaluated = run_small(**SETTINGS, **DROPOUT, **EVALUATED)
    assert evaluated.failed == set()
    assert differing(plain, evaluated) == {"random", "gradient", "parameter", "state", "logits"}
    for name, gradient in plain.stage("gradient", 1).items():
        np.testing.assert_array_equal(evaluated.stage("gradient", 1)[name], gradient)
    evaluate: Callable[..., Any] = Trainer.evaluate

    def apart(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "evaluate", apart)
    assert differing(plain, run_small(**SETTINGS, **DROPOUT, **EVALUATED)) == set()


@pytest.mark.each_time(1)
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"precision": "fp16"}])
def test_an_evaluation_in_the_arithmetic_of_training(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """Its loss is as true as those of training, and one that is rounded elsewhere isn't."""
    assert run_small(**SETTINGS, **EVALUATED, **settings).failed == set()
    predict: Callable[..., Any] = SFTTrainer.prediction_step
    other = torch.float16 if settings.get("precision") == "bf16" else torch.bfloat16

    def elsewhere(self: SFTTrainer, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", other):
            return predict(self, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "prediction_step", elsewhere)
    # A trainer in half precision asks for its own dtype within, whatever is on around it.
    wrong = set() if settings else {"evaluation_loss"}
    assert run_small(**SETTINGS, **EVALUATED, **settings).failed == wrong


@pytest.mark.parametrize(("method", "backend"), [("custom-lora", "cpu"), ("lora", "mlx")])
def test_loops_that_cannot_evaluate_refuse(run_small: RunSmall, method: str, backend: str) -> None:
    """The plain loop never does, and mlx-lm's trainer draws from the generator it trains with."""
    with pytest.raises(ValueError, match="eval_steps=2"):
        run_small(method, backend, train__eval_steps=2)
