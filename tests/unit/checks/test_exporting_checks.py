"""Checks of exported models: honest evidence passes, and each planted fault fails its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    AdapterShare,
    LayerWeight,
    LoadedParameter,
    SavedSettings,
    StepExported,
    StepKept,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

CHECKS = {"step_kept", "step_exported", "step_settings"}
EXACT = 1e-8


def _shares(run: Run, *shares: float, spread: float = 0.004) -> Run:
    both = zip(("q_proj", "k_proj"), shares, strict=True)
    return run.edited(StepKept, shares=tuple(AdapterShare(n, s, spread) for n, s in both))


def _merged(run: Run, share: float) -> Run:
    return run.edited(StepKept, merged=(AdapterShare("q_proj", share, EXACT),))


def _layers(run: Run, error: float, due: float = 0.0924) -> Run:
    weights = run.evidence.all(StepKept)[0].weights
    layers = (LayerWeight("q_proj", error, due), *weights.layers[1:])
    return run.edited(StepKept, weights=replace(weights, layers=layers))


def _others(run: Run, error: float) -> Run:
    weights = run.evidence.all(StepKept)[0].weights
    others = (LoadedParameter("norm.weight", error),)
    return run.edited(StepKept, weights=replace(weights, others=others))


def _plain(run: Run, dtype: str, error: float) -> Run:
    """The same, unquantized."""
    steps = {"finalize": {"model": {"path": "sft"}, "export": {"dtype": dtype}}}
    own = run.configured(quantizer={"name": "none", "theory": {}}, steps=steps)
    weights = own.evidence.all(StepKept)[0].weights
    layers = (LayerWeight("q_proj", error, 0.0),)
    kept = own.edited(StepKept, weights=replace(weights, layers=layers), merged=())
    return _shares(kept, 1.0, 1.0, spread=1e-7)


# What is planted, the check that must fail, and a part of its message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str, str]] = {
    "left out": (lambda run: _shares(run, 0.01, 0.0), "step_kept", "likely it was left out"),
    "merged twice": (lambda run: _shares(run, 1.98, 2.01), "step_kept", "2.01 times"),
    "left out of a layer": (lambda run: _shares(run, 1.0, 0.02), "step_kept", "is in k_proj 0.02"),
    "a tenth too much": (lambda run: _shares(run, 1.1, 1.09), "step_kept", "q_proj 1.1 times"),
    "left out of all by a little": (
        lambda run: _shares(run, 0.6, 0.58, spread=0.075),
        "step_kept",
        "in all layers",
    ),
    "merged wrongly": (lambda run: _merged(run, 1.01), "step_kept", "the merged q_proj 1.01"),
    "not a figure": (lambda run: _shares(run, math.nan, 1.0), "step_kept", "nan times"),
    "nothing is a figure": (
        lambda run: _shares(run, math.nan, math.nan, spread=math.nan),
        "step_kept",
        "nan times",
    ),
    "not a figure before": (lambda run: _merged(run, math.nan), "step_kept", "nan times"),
    "quantized twice": (lambda run: _layers(run, 0.131), "step_kept", "quantized twice"),
    "not quantized": (lambda run: _layers(run, 0.0), "step_kept", "not at all"),
    "not to 4 bits": (lambda run: _layers(run, 0.0064), "step_kept", "q_proj of the export"),
    "no weight": (lambda run: _layers(run, math.nan), "step_kept", "by nan"),
    "another norm": (lambda run: _others(run, 0.01), "step_kept", "norm.weight of the export"),
    "rounded to bfloat16": (lambda run: _plain(run, "float32", 2e-3), "step_kept", "by 0.002"),
    "rounded to 8 bits": (lambda run: _plain(run, "bfloat16", 6e-3), "step_kept", "by 0.006"),
    "no weights": (lambda run: run.without(StepKept), "step_kept", "that finalize has exported"),
    "loaded otherwise": (
        lambda run: run.edited(StepExported, difference=0.01),
        "step_exported",
        "differ by 0.01",
    ),
    "no logits": (
        lambda run: run.edited(StepExported, difference=math.nan),
        "step_exported",
        "differ by nan",
    ),
    "never loaded": (lambda run: run.without(StepExported), "step_exported", "the logits of what"),
    "another template": (
        lambda run: run.edited(SavedSettings, changed=("chat_template a → b",)),
        "step_settings",
        "finalize/chat_template",
    ),
    "no settings": (lambda run: run.without(SavedSettings), "step_settings", "the settings beside"),
}

HONEST: dict[str, Callable[[Run], Run]] = {
    "levels shrink": lambda run: _shares(run, 0.985, 0.988),
    "chance": lambda run: _shares(run, 1.02, 0.98),
    "a small adapter": lambda run: _shares(run, 0.5, 1.6, spread=0.3),
    "no adapter": lambda run: run.edited(StepKept, shares=(), merged=()),
    "scales of 8 bits": lambda run: _layers(run, 0.0962),
    "another way to take scales": lambda run: _layers(run, 0.0897),
    "float32": lambda run: _plain(run, "float32", 1e-7),
    "bfloat16": lambda run: _plain(run, "bfloat16", 2.2e-3),
    "rounding of the merge": lambda run: _merged(run, 1.00002),
}


def test_honest_evidence_passes(exporting: Run) -> None:
    """Every check speaks."""
    assert exporting.failed() == set()
    assert set(exporting.verdicts()) >= CHECKS


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check_alone(exporting: Run, name: str) -> None:
    """With what was measured, and a likely cause."""
    plant, check, message = PLANTED[name]
    planted = plant(exporting)
    assert planted.failed() == {check}
    assert message in planted.verdicts()[check].message


@pytest.mark.parametrize("name", HONEST)
def test_honest_variations_pass(exporting: Run, name: str) -> None:
    """Rounding is no fault."""
    assert HONEST[name](exporting).failed() == set()


def test_without_the_step_nothing_is_judged(exporting: Run) -> None:
    """Nor in a dry run."""
    bare = exporting.without(StepKept, StepExported, SavedSettings)
    for steps in ({"finalize": None}, {"dry_run": True}):
        assert set(bare.configured(steps=steps).verdicts()) & CHECKS == set()
