"""Faults in which rows are seen, how often and in which order; and in the trainer's evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler
from transformers import Trainer
from trl import SFTTrainer

from tunematrix.evidence.events import Coverage, EvaluationPasses
from tunematrix.faults.patching import replaced

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall, Small

EPOCHS: dict[str, object] = {"train__rows": 12, "train__max_steps": 7}
EVALUATED: dict[str, object] = {"train__eval_steps": 2, "train__max_steps": 4}


@pytest.mark.parametrize(
    "settings",
    [
        EPOCHS,
        {**EPOCHS, "method": "custom-lora"},
        {"data": "packed"},
        {"train__max_steps": 3},
    ],
    ids=str,
)
def test_rows_that_are_each_seen(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Over several epochs, and within one."""
    ran = run_small(**settings)
    assert ran.failed == set()
    seen = ran.evidence.one(Coverage)
    assert seen is not None and seen.seen >= 12


@contextmanager
def _sampled(order: str) -> Iterator[None]:
    """Draw rows again that were drawn before, or leave them in their order."""

    def wrap(original: Any) -> Any:
        def rows(sampler: RandomSampler) -> Iterator[int]:
            count = len(sampler.data_source)
            if order == "repeating":
                yield from torch.randint(count, (count,)).tolist()
            elif order == "losing":
                yield from (torch.randperm(count) % (count - 1)).tolist()
            else:
                yield from SequentialSampler(sampler.data_source)

        return rows

    with replaced(RandomSampler, "__iter__", wrap):
        yield


@pytest.mark.parametrize("order", ["repeating", "losing", "in order"])
def test_samplers_that_repeat_lose_or_keep_order(run_small: RunSmall, order: str) -> None:
    """Every row is a row of the data, and no loss need be another."""
    with _sampled(order):
        assert run_small(**EPOCHS).failed == {"coverage", "row_order"}


def _evaluated(run_small: RunSmall, **settings: object) -> Small:
    return run_small(**EVALUATED, **settings)


@pytest.mark.parametrize("data", ["text", "prompt-completion", "packed"])
def test_honest_evaluations(run_small: RunSmall, data: str) -> None:
    """All held-out rows, each time, in evaluation mode."""
    ran = _evaluated(run_small, data=data, method__implementation__dropout=0.1)
    assert ran.failed == set()
    found = ran.evidence.all(EvaluationPasses)
    assert [one.step for one in found] == [2, 4]
    assert all(one.training == 0 and one.rows == one.faithful > 0 for one in found)


@contextmanager
def _dropout_left_on() -> Iterator[None]:
    def wrap(original: Any) -> Any:
        def compute(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            model.train()
            return original(trainer, model, *args, **kwargs)

        return compute

    with replaced(SFTTrainer, "compute_loss", wrap):
        yield


@contextmanager
def _trained_on() -> Iterator[None]:
    def wrap(original: Any) -> Any:
        def loader(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            trainer.eval_dataset = trainer.train_dataset
            return original(trainer, *args, **kwargs)

        return loader

    with replaced(Trainer, "get_eval_dataloader", wrap):
        yield


@contextmanager
def _too_large() -> Iterator[None]:
    def wrap(original: Any) -> Any:
        def compute(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(trainer, *args, **kwargs)
            if torch.is_grad_enabled():
                return found
            return (found[0] * 1.01, *found[1:]) if isinstance(found, tuple) else found * 1.01

        return compute

    with replaced(SFTTrainer, "compute_loss", wrap):
        yield


@pytest.mark.parametrize("fault", [_dropout_left_on, _trained_on, _too_large])
def test_evaluations_of_something_else(run_small: RunSmall, fault: Any) -> None:
    """Each logs a finite loss after the right steps."""
    with fault():
        ran = _evaluated(run_small, method__implementation__dropout=0.1)
    assert "evaluation_loss" in ran.failed
