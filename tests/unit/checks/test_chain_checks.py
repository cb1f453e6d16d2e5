"""Checks of a pipeline's training: honest evidence passes, and each planted fault fails its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import StepMerged, StepSaved, StepStarted, StepTrained

if TYPE_CHECKING:
    from tests.unit.conftest import Run

CHECKS = {
    "step_started",
    "step_merged",
    "step_changed",
    "step_saved",
    "step_loss",
    "step_preference",
}

# What is planted, the check that must fail, and a part of its message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str, str]] = {
    "another adapter": (
        lambda run: run.edited(StepStarted, differing=3),
        "step_started",
        "dpo: 3 of 28",
    ),
    "merged twice": (
        lambda run: run.edited(StepMerged, merged=0.56),
        "step_merged",
        "likely it wasn't merged, or more than once",
    ),
    "not merged": (
        lambda run: run.edited(StepMerged, merged=0.45),
        "step_merged",
        "0.5 with the adapter, 0.45 once merged",
    ),
    "nothing changed": (
        lambda run: run.edited(StepTrained, 0, moved=0),
        "step_changed",
        "sft changed 0 of its 28 trained tensors",
    ),
    "saved as it began": (
        lambda run: run.edited(StepSaved, 0, score=3.0),
        "step_saved",
        "sft: the trained model scored 2",
    ),
    "saved in part": (
        lambda run: run.edited(StepSaved, score=0.85),
        "step_saved",
        "dpo: the trained model scored 0.9",
    ),
    "a tensor that isn't saved": (
        lambda run: run.edited(StepSaved, 0, differing=1),
        "step_saved",
        "aren't among those that were loaded again",
    ),
    "never loaded again": (
        lambda run: run.without(StepSaved),
        "step_saved",
        "what sft has saved",
    ),
    "a high loss": (
        lambda run: run.edited(StepTrained, 0, logged=(3.0, 2.6)),
        "step_loss",
        "ended with a higher loss",
    ),
    "swapped answers": (
        lambda run: run.edited(StepTrained, after=0.1).edited(StepSaved, score=0.1),
        "step_preference",
        "it went from 0.5 to 0.1",
    ),
}

HONEST: dict[str, Callable[[Run], Run]] = {
    "rounding": lambda run: run.edited(StepSaved, 0, score=2.00001),
    "rounding of a merge": lambda run: run.edited(StepMerged, merged=0.502),
    "one tensor moved": lambda run: run.edited(StepTrained, 0, moved=1),
    "a loss at its bound": lambda run: run.edited(StepTrained, 0, logged=(2.5,)),
    "a preference at its bound": lambda run: run.edited(StepTrained, after=0.8).edited(
        StepSaved, score=0.8
    ),
    "an adapter that was trained on": lambda run: run.without(StepMerged),
    "a new adapter": lambda run: run.without(StepMerged, StepStarted),
    "goes on from step 3": lambda run: run.edited(StepTrained, 0, resumed_at=3, logged=(2.1,)),
}


def test_honest_evidence_passes(taught: Run) -> None:
    """Every check speaks."""
    assert taught.failed() == set()
    assert set(taught.verdicts()) >= CHECKS


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check_alone(taught: Run, name: str) -> None:
    """With what was measured, and a likely cause."""
    plant, check, message = PLANTED[name]
    planted = plant(taught)
    assert planted.failed() == {check}
    assert message in planted.verdicts()[check].message


@pytest.mark.parametrize("name", HONEST)
def test_honest_variations_pass(taught: Run, name: str) -> None:
    """Rounding is no fault, and a bound itself passes."""
    assert HONEST[name](taught).failed() == set()


def test_what_was_not_asked_for_is_not_judged(taught: Run) -> None:
    """No bound, and nothing that trains."""
    steps = {"sft": None, "dpo": None}
    bare = taught.configured(steps=steps).without(StepTrained, StepSaved, StepStarted, StepMerged)
    assert set(bare.verdicts()) & CHECKS == set()
