"""The checks of preference training: honest evidence passes, planted faults and gaps don't."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.checks.registry import registry
from tunematrix.evidence.events import (
    Event,
    LoggedPreference,
    LoggedStep,
    MicroBatch,
    Preference,
    PreferenceLoss,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

CHECKS = {check.name for check in registry().in_group("preferences")}

PLANTED: dict[str, tuple[Callable[[Run], Run], set[str], str, str]] = {
    # fault: what is planted, checks that fail, the first's bound, part of its cause
    "first loss": (
        lambda run: run.edited(LoggedStep, 0, loss=0.35).edited(PreferenceLoss, 0, loss=0.35),
        {"dpo_first_loss"},
        "<= 1e-06",
        "logged 0.35 instead of 0.693147; likely a reference",
    ),
    "later loss": (
        lambda run: run.edited(LoggedStep, 2, loss=0.4),
        {"dpo_loss"},
        "<= 1e-05",
        "step 2 logged 0.4, the loss is 0.53; likely another beta than 0.1",
    ),
    "gradient": (
        lambda run: run.edited(PreferenceLoss, 0, gradient_norm=0.75),
        {"dpo_gradient"},
        "<= 1e-05",
        "has a norm of 3, that of its loss 0.75; likely gradients that are summed",
    ),
    "policy": (
        lambda run: run.edited(LoggedPreference, 1, rejected=-17.2, rejected_reward=-0.02),
        {"dpo_reference"},
        "<= 0.0001",
        "at step 1 policy or reference is 0.2 nats off",
    ),
    "reference": (
        lambda run: run.edited(PreferenceLoss, 3, reference_chosen=-16.1),
        {"dpo_reference"},
        "<= 0.0001",
        "at step 3 policy or reference is 0.1 nats off",
    ),
    "before": (
        lambda run: run.edited(Preference, 0, rate=0.56),
        {"preference"},
        "0.9 to 0.99, from 0.5 within 0.04",
        "went from 56.0% to 97.0% over 64 pairs; likely another base",
    ),
    "after": (
        lambda run: run.edited(Preference, 1, rate=0.03),
        {"preference"},
        "0.9 to 0.99, from 0.5 within 0.04",
        "went from 53.0% to 3.0%",
    ),
    "one row a pair": (
        lambda run: run.edited(MicroBatch, 0, rows=2),
        {"micro_batches"},
        "2 per step, each of 4 rows",
        "micro-batches of [2]",
    ),
}

ABSENT: dict[type[Event], set[str]] = {
    Preference: {"preference"},
    PreferenceLoss: {"dpo_loss", "dpo_gradient", "dpo_reference"},
    LoggedPreference: {"dpo_reference"},
    LoggedStep: {"dpo_first_loss", "dpo_loss", "dpo_gradient"},
}

DECIDING = {
    LoggedPreference: {"chosen", "rejected", "chosen_reward", "rejected_reward"},
    Preference: {"rate"},
    PreferenceLoss: {
        "loss",
        "chosen",
        "rejected",
        "reference_chosen",
        "reference_rejected",
        "gradient_norm",
    },
}


def test_honest_evidence_passes(preferring: Run) -> None:
    """All five speak, and nothing is owed of a loss over texts."""
    verdicts = preferring.verdicts()
    assert preferring.failed() == set()
    assert verdicts.keys() >= CHECKS
    assert "first_loss" not in verdicts


def test_text_training_owes_none_of_it(run: Run) -> None:
    """A recipe without preferences has no pairs to tell of."""
    assert not run.verdicts().keys() & CHECKS


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_fails_its_check(preferring: Run, fault: str) -> None:
    """The failure has the bound and a likely cause."""
    plant, failed, bound, cause = PLANTED[fault]
    planted = plant(preferring)
    assert planted.failed() == failed
    verdict = planted.verdicts()[min(failed)]
    assert str(verdict.bound) == bound
    assert cause in verdict.message


@pytest.mark.parametrize(
    ("method", "theory", "fails"),
    [
        ("dora", {"rounding": {"code": "nf4", "bits": 4, "group_size": 64}}, False),
        ("lora", {"rounding": {"code": "nf4", "bits": 4, "group_size": 64}}, True),
        ("dora", {"rounding": {"code": "absmax", "bits": 8}}, True),
        ("dora", {"rounding": None}, True),
    ],
)
def test_where_a_first_loss_may_be_off(
    preferring: Run, method: str, theory: dict[str, Any], fails: bool
) -> None:
    """By what bitsandbytes rounds once more, of which DoRA alone takes norms; nowhere else."""
    cell = preferring.configured(method={"name": method}, quantizer={"theory": theory})
    off = cell.edited(LoggedStep, 0, loss=0.6934)
    assert ("dpo_first_loss" in off.failed()) is fails
    assert "dpo_first_loss" in cell.edited(LoggedStep, 0, loss=0.7).failed()


@pytest.mark.parametrize(
    ("path", "pairs", "fails"),
    [
        ("toyworld://base", 64, True),
        ("toyworld://base", 8, False),
        ("toyworld://phi3", 64, False),
    ],
)
def test_where_a_preference_has_to_begin_even(
    preferring: Run, path: str, pairs: int, fails: bool
) -> None:
    """Of the base that has learned to prefer nothing, as far as so many pairs tell it."""
    base = preferring.configured(model={"path": path})
    began = base.edited(Preference, 0, rate=0.58, pairs=pairs)
    assert ("preference" in began.failed()) is fails
    assert "preference" in base.edited(Preference, 0, rate=math.nan).failed()


def test_every_check_has_a_planted_fault() -> None:
    """A check that nobody ever saw failing vouches for nothing."""
    assert {check for _, failed, _, _ in PLANTED.values() for check in failed} >= CHECKS


@pytest.mark.parametrize("kind", ABSENT)
def test_absent_evidence_fails(preferring: Run, kind: type[Event]) -> None:
    """What was never recorded doesn't pass."""
    without = preferring.without(kind)
    assert without.failed() & CHECKS == ABSENT[kind]
    for name in ABSENT[kind]:
        assert without.verdicts()[name].bound is None


def test_a_single_audited_step_proves_nothing(preferring: Run) -> None:
    """At the first, any reference that is a copy of the policy looks right."""
    first = preferring.recording(preferring.evidence.all(PreferenceLoss)[0])
    assert first.failed() == {"dpo_loss", "dpo_reference"}


@pytest.mark.parametrize("kind", DECIDING)
@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_nan_and_infinity_never_pass(preferring: Run, kind: type[Event], figure: float) -> None:
    """Wherever one stands."""
    names = {field.name for field in fields(kind)}
    assert DECIDING[kind] <= names
    for position, event in enumerate(preferring.evidence.all(kind)):
        for name in DECIDING[kind]:
            if getattr(event, name) is not None:
                spoilt = preferring.edited(kind, position, **{name: figure})
                assert spoilt.failed() & CHECKS, f"{kind.__name__} {position}: {name}"


def test_every_float_is_spoilt() -> None:
    """A float in a new field has to be added to the list above."""
    for kind, names in DECIDING.items():
        assert {field.name for field in fields(kind) if "float" in str(field.type)} == names


def test_bounds_may_be_one_sided(preferring: Run) -> None:
    """A share is between 0 and 1 in any case."""
    assert not preferring.asked(preference={"min": 0.97}).failed()
    assert preferring.asked(preference={"min": 0.98}).failed() == {"preference"}
    assert preferring.asked(preference={"max": 0.96}).failed() == {"preference"}


def test_no_bound_for_the_preference(preferring: Run) -> None:
    """What was measured and that nothing decides fails."""
    verdict = preferring.asked(preference=None).verdicts()["preference"]
    assert verdict.outcome == "failed"
    assert "add preference" in verdict.message


def test_lines_about_several_steps_tell_none(preferring: Run) -> None:
    """Their losses are means, and aren't held against single steps."""
    seldom = preferring.configured(train={"logging_steps": 2})
    assert seldom.verdicts().keys() & CHECKS == {"preference"}
