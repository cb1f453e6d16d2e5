"""No check passes without evidence, or by a figure that is no finite number."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.checks.registry import registry
from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    AdapterUses,
    Arrivals,
    Attached,
    BaseWeights,
    Changed,
    Compute,
    Continuity,
    Coverage,
    Device,
    Draws,
    DrawScores,
    Evaluation,
    EvaluationPasses,
    Event,
    Generation,
    Held,
    LoggedEvaluation,
    LoggedStep,
    LogitError,
    Memory,
    Merged,
    MicroBatch,
    OptimizerStep,
    Parity,
    Reload,
    StepLoss,
    Storage,
    Switches,
    Throughput,
    TokenizerRules,
    Trainable,
    TrainedDtypes,
    Transfer,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

ABSENT: dict[type[Event], set[str]] = {
    Device: {"device"},
    Attached: {"attached", "adapter_rank", "adapter_start"},
    Draws: {"seed"},
    Held: {"held"},
    Storage: {"held", "stored_bits", "memory_stored"},
    TokenizerRules: {"tokenizer_rules"},
    BaseWeights: {
        "base_weights",
        "base_products",
        "base_parts",
        "base_norms",
        "group_scales",
        "scale_rounding",
        "stored_states",
    },
    LogitError: {"logit_error"},
    Trainable: {"trainable"},
    MicroBatch: {
        "labels",
        "micro_batches",
        "gradient_checkpointing",
        "computed_once",
        "activations",
    },
    Compute: {
        "adapter_formula",
        "arrived",
        "attention_kernel",
        "clipping",
        "gradient",
        "optimizer_update",
        "precision",
    },
    StepLoss: {"first_loss", "step_losses"},
    LoggedEvaluation: {"evaluations", "evaluation_loss"},
    LoggedStep: {
        "logged_rate",
        "first_loss",
        "step_losses",
        "clipping",
        "finite_loss",
        "first_logged_loss",
        "final_loss",
        "steps_logged",
    },
    OptimizerStep: {
        "arrived",
        "every_step",
        "learning_rate",
        "clipping",
        "gradient",
        "optimizer_update",
        "interrupted",
        "moved_share",
    },
    Changed: {"moved", "frozen"},
    Continuity: {"continuity"},
    Arrivals: {"arrived", "every_step"},
    AdapterUses: {"adapter_uses"},
    Switches: {"switches"},
    Coverage: {"coverage", "row_order"},
    EvaluationPasses: {"evaluation_loss"},
    AdapterScale: {"adapter_scale"},
    AdapterFormula: {"adapter_formula", "adapter_rank", "base_gradient"},
    AdapterDropout: {"adapter_dropout", "dropout_factor", "dropout_independent"},
    TrainedDtypes: {"trained_dtypes"},
    Reload: {"reload"},
    Merged: {"merge", "merged_share", "merged_sum"},
    DrawScores: {"drawn_scores"},
    Generation: {"grammatical", "cache", "seeded", "sampled_nats"},
    Parity: {"parity_logits", "parity_gradients", "parity_trace"},
    Transfer: {"transfer"},
    Evaluation: {"gap_closed"},
    Memory: {"memory_allocator_peak", "memory_process_peak"},
    Throughput: {"throughput"},
}

DECIDING: tuple[tuple[type[Event], str], ...] = (
    (LogitError, "relative"),
    (OptimizerStep, "learning_rates"),
    (OptimizerStep, "gradient_norm"),
    (OptimizerStep, "deviation"),
    (OptimizerStep, "moved"),
    (OptimizerStep, "gradient_error"),
    (OptimizerStep, "expected_norm"),
    (StepLoss, "loss"),
    (DrawScores, "gaps"),
    (LoggedEvaluation, "loss"),
    (Coverage, "successive"),
    (LoggedStep, "loss"),
    (LoggedStep, "gradient_norm"),
    (LoggedStep, "learning_rate"),
    (AdapterDropout, "factor"),
    (Arrivals, "error"),
    (AdapterUses, "changed_by_training"),
    (Attached, "difference"),
    (Attached, "largest"),
    (Attached, "width"),
    (Attached, "apart"),
    (Evaluation, "loss"),
    (Throughput, "seconds"),
    (Reload, "max_difference"),
    (Reload, "changed_by_training"),
    (Merged, "max_difference"),
    (Merged, "changed_by_training"),
    (Parity, "difference"),
    (Transfer, "difference"),
    (Transfer, "changed_by_training"),
)


@pytest.mark.parametrize("kind", ABSENT)
def test_absent_evidence_fails(run: Run, kind: type[Event]) -> None:
    """What was never recorded neither passes nor vanishes from the verdicts."""
    verdicts = run.without(kind).verdicts()
    assert set(verdicts) == set(run.verdicts())
    assert {name for name, v in verdicts.items() if v.outcome == "failed"} == ABSENT[kind]
    for name in ABSENT[kind] - {"steps_logged"}:
        assert verdicts[name].measured is None
        assert "no reading of" in verdicts[name].message
        assert verdicts[name].bound is None


@pytest.mark.parametrize(
    ("kind", "field", "figure"),
    [
        (kind, field, figure)
        for kind, field in DECIDING
        for figure in (math.nan, math.inf)
        # A loss scaler logs an overflow as infinite; what the optimizer got of it decides.
        if (kind, field, figure) != (LoggedStep, "gradient_norm", math.inf)
    ],
)
def test_nan_and_infinity_never_pass(
    run: Run, kind: type[Event], field: str, figure: float
) -> None:
    """Wherever in a run one such figure stands, some check fails and none breaks."""
    for position, event in enumerate(run.evidence.all(kind)):
        value = getattr(event, field)
        if value is None:
            continue
        for changed in _spoilt(value, figure):
            spoilt = run.edited(kind, position, **{field: changed})
            assert spoilt.failed(), f"{kind.__name__} {position}: {field}={changed}"


def test_every_deciding_float_is_spoilt(run: Run) -> None:
    """A float in a new field of evidence has to be added to the list above, or to this one."""
    undecided = {("Phase", "seconds"), ("Finished", "seconds"), ("Evaluation", "floor")}
    # Of sampled texts alone; test_generation_checks.py has them.
    undecided |= {("Generation", "nats"), ("Generation", "entropy")}
    # What was asked for, and no measurement.
    undecided |= {("DrawScores", "temperature")}
    # It gives room, and fails nothing; test_steps_checks.py has it.
    undecided |= {("OptimizerStep", "gradient_lost")}
    # Of steps that weren't recomputed; test_loss_checks.py has them.
    undecided |= {("MicroBatch", "nats")}
    # Either of the two may be what a trainer means; test_loss_checks.py has them.
    undecided |= {("EvaluationPasses", "by_rows"), ("EvaluationPasses", "by_tokens")}
    found = {
        (type(event).__name__, field.name)
        for event in run.evidence.events
        for field in fields(event)
        if _has_float(getattr(event, field.name))
    }
    assert found - undecided == {(kind.__name__, field) for kind, field in DECIDING}


@pytest.mark.parametrize("kind", ABSENT)
def test_each_check_declares_what_it_reads(run: Run, kind: type[Event]) -> None:
    """No other verdict changes where events of a kind are absent."""
    whole, without = run.verdicts(), run.without(kind).verdicts()
    changed = {name for name, verdict in without.items() if verdict != whole[name]}
    declared = {name for name in whole if kind in registry().checks[name].reads}
    assert changed <= declared


def _has_float(value: object) -> bool:
    return isinstance(value, float) or (
        isinstance(value, tuple) and any(isinstance(entry, float) for entry in value)
    )


def _spoilt(value: Any, figure: float) -> list[Any]:
    """Return `value` with `figure` in its place, or in the place of one entry after the other."""
    if not isinstance(value, tuple):
        return [figure]
    return [(*value[:index], figure, *value[index + 1 :]) for index in range(len(value))]
