"""Checks of a pipeline's steps: honest evidence passes, and each planted fault fails its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.pipeline import TIE
from tunematrix.evidence.events import (
    StepAdapter,
    StepBegun,
    StepCache,
    StepGrammar,
    StepProgress,
    StepScored,
    StepTogether,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

CHECKS = {
    "step_batch_equals_single",
    "step_cache_exact",
    "step_adapter_acts",
    "step_grammatical",
    "step_perplexity",
}

# What is planted, the check that must fail, and a part of its message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str, str]] = {
    "an answer that parts": (
        lambda run: run.edited(StepTogether, gaps=(0.0, 0.2, 0.0, 0.0)),
        "step_batch_equals_single",
        "1 of 4 prompts are answered otherwise",
    ),
    "an answer that goes on": (
        lambda run: run.edited(StepTogether, gaps=(math.inf, 0.0, 0.0, 0.0)),
        "step_batch_equals_single",
        "padding on the wrong side",
    ),
    "logits of nan where answers part": (
        lambda run: run.edited(StepTogether, gaps=(math.nan, math.nan, 0.0, 0.0)),
        "step_batch_equals_single",
        "2 of 4",
    ),
    "nothing compared": (
        lambda run: run.edited(StepTogether, gaps=()),
        "step_batch_equals_single",
        "0 of 0",
    ),
    "never asked alone": (
        lambda run: run.without(StepTogether),
        "step_batch_equals_single",
        "no reading of the same prompts asked together and alone",
    ),
    "another token": (
        lambda run: run.edited(StepCache, regrets=(0.0, 0.0, 0.3, 0.3)),
        "step_cache_exact",
        "2 of 4 answers",
    ),
    "other logits, the same tokens": (
        lambda run: run.edited(StepCache, logits=(0.0, 0.02, 0.0, 0.0)),
        "step_cache_exact",
        "by up to 0.02 of their spread",
    ),
    "logits of nan": (
        lambda run: run.edited(StepCache, logits=(0.0, math.nan, 0.0, 0.0)),
        "step_cache_exact",
        "by up to nan",
    ),
    "no answer": (
        lambda run: run.edited(StepCache, regrets=(), logits=()),
        "step_cache_exact",
        "0 of 0",
    ),
    "never without a cache": (
        lambda run: run.without(StepCache),
        "step_cache_exact",
        "no reading of the same answers",
    ),
    "an idle adapter": (
        lambda run: run.edited(StepAdapter, changed=0.0, answers=0),
        "step_adapter_acts",
        "the adapter changes no logit",
    ),
    "an adapter of nan": (
        lambda run: run.edited(StepAdapter, changed=math.nan),
        "step_adapter_acts",
        "the adapter changes no logit",
    ),
    "a base that has changed": (
        lambda run: run.edited(StepAdapter, left=1e-7),
        "step_adapter_acts",
        "differ from the base's by up to 1e-07",
    ),
    "a base of nan": (
        lambda run: run.edited(StepAdapter, left=math.nan),
        "step_adapter_acts",
        "by up to nan",
    ),
    "never without the adapter": (
        lambda run: run.without(StepAdapter),
        "step_adapter_acts",
        "no reading of the same prompts with the adapter and without",
    ),
    "few stories": (
        lambda run: run.edited(StepGrammar, following=2),
        "step_grammatical",
        "50% of the answers go on as a story",
    ),
    "nonsense": (
        lambda run: run.edited(StepScored, perplexities=(30.0, 501.0, 50.0, 60.0)),
        "step_perplexity",
        "the least likely of 4 texts has a perplexity of 501",
    ),
    "an infinite perplexity": (
        lambda run: run.edited(StepScored, perplexities=(30.0, math.inf, 50.0, 60.0)),
        "step_perplexity",
        "a perplexity of inf",
    ),
    "nothing to score": (
        lambda run: run.edited(StepScored, perplexities=(math.nan,) * 4),
        "step_perplexity",
        "a perplexity of nan",
    ),
    "silence": (
        lambda run: run.edited(StepScored, blank=4),
        "step_perplexity",
        "all answers are blank",
    ),
}

HONEST: dict[str, Callable[[Run], Run]] = {
    "ties": lambda run: run.edited(StepTogether, gaps=(TIE, 0.0, 1e-5, 0.0)),
    "rounding": lambda run: run.edited(StepCache, logits=(TIE, 1e-4, 1e-5, 0.0)),
    "a faint adapter": lambda run: run.edited(StepAdapter, changed=1e-6, answers=0),
    "a share at its bound": lambda run: run.edited(StepGrammar, texts=8, following=6),
    "a perplexity at its bound": lambda run: run.edited(StepScored, perplexities=(500.0,)),
    "a blank answer": lambda run: run.edited(StepScored, blank=3),
    "one text too short to score": lambda run: run.edited(
        StepScored, perplexities=(math.nan, 30.0, 30.0, 30.0)
    ),
}


def test_honest_evidence_passes(answering: Run) -> None:
    """Every check speaks."""
    assert answering.failed() == set()
    assert set(answering.verdicts()) >= CHECKS


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check_alone(answering: Run, name: str) -> None:
    """With what was measured, and a likely cause."""
    plant, check, message = PLANTED[name]
    planted = plant(answering)
    assert planted.failed() == {check}
    assert message in planted.verdicts()[check].message


@pytest.mark.parametrize("name", HONEST)
def test_honest_variations_pass(answering: Run, name: str) -> None:
    """Ties and rounding are no faults, and a bound itself passes."""
    assert HONEST[name](answering).failed() == set()


def test_prompts_that_were_asked_one_by_one(answering: Run) -> None:
    """There is nothing that a batch could have changed."""
    alone = answering.edited(StepTogether, batch=1)
    assert set(alone.verdicts()) >= CHECKS - {"step_batch_equals_single"}
    assert "step_batch_equals_single" not in alone.verdicts()


def test_what_was_not_asked_for_is_not_judged(answering: Run) -> None:
    """No adapter, no scorer, no bound, and steps that answer nothing."""
    bare = answering.without(StepAdapter, StepScored).edited(StepBegun, adapter="")
    bare = bare.asked(generation=None)
    assert set(bare.verdicts()) & CHECKS == {"step_batch_equals_single", "step_cache_exact"}
    dry = answering.without(StepProgress, StepTogether, StepCache, StepAdapter, StepGrammar)
    assert set(dry.without(StepScored).verdicts()) & CHECKS == set()


def test_of_two_steps_with_scorers_the_worse_decides(answering: Run) -> None:
    """Each is held against its own bound."""
    (first,) = answering.evidence.all(StepScored)
    strict = StepScored("serve", "gpt2", (20.0,), 0, 10.0)
    judged = answering.recording(first, strict)
    assert judged.failed() == {"step_perplexity"}
    assert "a perplexity of 20" in judged.verdicts()["step_perplexity"].message
