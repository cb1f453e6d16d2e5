"""Every check: passes honest evidence, fails the planted fault, and never does without evidence."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.checks.planted import PLANTED

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
    Finished,
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

COMMANDS_OWN = {
    "trainer_log",
    "loss_falls",
    "learning_rate_logged",
    "ranks_started",
    "repository_clean",
    "gpu_used",
    "library_loaded",
    "completion_perplexity",
}

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


def test_honest_evidence_passes_every_check(run: Run) -> None:
    """Each check speaks, none complains, and a passing one explains nothing."""
    verdicts = run.verdicts()
    # A recipe trains on stories or on preferences; test_preference_checks.py has the latter. Steps
    # of a pipeline, and what is watched, have their own files, too.
    others = {"preferences", "pipeline", "watch"}
    asked = {check.name for check in registry().checks.values() if check.group not in others}
    # A warning is there only when there is one; one process is no several.
    # And test_command_checks.py has those of a trainer's command; test_loss_checks.py the best one,
    # test_settings_checks.py what is compiled, test_quantization_checks.py ends of ranges.
    apart = {"stderr_warning", "ranks", "best_loaded", "compiled", "group_ends"}
    assert set(verdicts) == asked - apart - COMMANDS_OWN
    assert {verdict.outcome for verdict in verdicts.values()} == {"passed"}
    assert {verdict.message for verdict in verdicts.values()} == {""}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_fails_its_check(run: Run, name: str) -> None:
    """The failure has the measured value, the bound, and a likely cause."""
    plant, measured, bound, cause = PLANTED[name]
    verdict = plant(run).verdicts()[name]
    assert verdict.outcome == "failed"
    if isinstance(measured, float):
        assert verdict.measured == pytest.approx(measured)
    else:
        assert verdict.measured == measured
    assert str(verdict.bound) == bound
    assert cause in verdict.message


def test_every_check_has_a_planted_fault(run: Run) -> None:
    """A check that nobody ever saw failing vouches for nothing."""
    assert set(PLANTED) == set(run.verdicts())


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


def test_a_run_without_an_end_proves_nothing(run: Run) -> None:
    """Exit code 0 before the recipe's end fails, and nothing else is judged then."""
    verdicts = run.without(Finished).verdicts()
    assert verdicts["exit"].outcome == "failed"
    assert "it tested nothing" in verdicts["exit"].message
    assert set(verdicts) == {"exit", "left_behind", "stderr"}


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


def test_a_recipe_that_does_not_train_owes_no_proof_of_training(run: Run) -> None:
    """Only how it ended and what its spec asks is judged."""
    bounds = {"test_id": "fetch", "recipe": "download", "expected_files": ["config.json"]}
    download = Finished()
    kinds = {type(event) for event in run.evidence.events}
    fetched = (
        run.without(*kinds)
        .recording(download)
        .configured(recipe={"owes": ["process"]}, meters={"merge": False})
    )
    fetched = type(run)(fetched.evidence, bounds, fetched.config).leaving(files=("config.json",))
    assert set(fetched.verdicts()) == {"exit", "left_behind", "stderr", "expected_files"}
    assert not fetched.failed()
    assert fetched.leaving(files=()).failed() == {"expected_files"}


def test_a_process_with_a_log(run: Run) -> None:
    """A trainer that our meters don't reach owes its log, its files and its memory alone."""
    lines = [LoggedStep(step, loss) for step, loss in ((10, 5.0), (20, 2.0))]
    bounds = {
        "test_id": "theirs",
        "recipe": "theirs",
        "loss": {"final_max": 3.0, "first_max": 6.0},
        "min_steps_logged": 2,
        "expected_files": ["model.bin"],
        "memory": {"process_peak_mb": {"max": 80.0}},
    }
    kinds = {type(event) for event in run.evidence.events}
    evidence = (
        run.without(*kinds)
        .recording(*lines, Memory("process_peak", 64_000_000, "VmHWM"), Finished())
        .leaving(files=("model.bin",))
        .evidence
    )
    owes = {"owes": ["process", "log", "files", "memory"]}
    theirs = type(run)(evidence, bounds, run.configured(recipe=owes).config)
    assert list(theirs.verdicts()) == [
        "exit", "left_behind", "stderr", "steps_logged", "finite_loss", "first_logged_loss",
        "final_loss", "expected_files", "memory_process_peak",
    ]  # fmt: skip
    assert not theirs.failed()
    # Our own settings say how often our trainers log, and nothing of theirs.
    assert theirs.configured(train={"logging_steps": 1, "max_steps": 500}).failed() == set()
    assert theirs.asked(min_steps_logged=3).failed() == {"steps_logged"}
    silent = {"steps_logged", "finite_loss", "first_logged_loss", "final_loss"}
    assert theirs.without(LoggedStep).failed() == silent
    assert theirs.without(Memory).failed() == {"memory_process_peak"}


def test_what_the_spec_bounds_is_judged_whatever_the_recipe_owes(run: Run) -> None:
    """A bound that nobody looks at would be a promise that nobody keeps."""
    bare = run.configured(recipe={"owes": ["process"]})
    assert bare.asked(throughput={"min_tokens_per_second": 1e6}).failed() == {"throughput"}
    assert bare.asked(gap_closed={"min": 0.99}).failed() == {"gap_closed"}
    assert "throughput" not in bare.asked(throughput=None).verdicts()


@pytest.mark.parametrize("kind", ABSENT)
def test_each_check_declares_what_it_reads(run: Run, kind: type[Event]) -> None:
    """No other verdict changes where events of a kind are absent."""
    whole, without = run.verdicts(), run.without(kind).verdicts()
    changed = {name for name, verdict in without.items() if verdict != whole[name]}
    declared = {name for name in whole if kind in registry().checks[name].reads}
    assert changed <= declared


def test_groups_are_judged_in_the_order_in_which_they_are_owed(run: Run) -> None:
    """And the process first, owed or not."""
    names = list(run.configured(recipe={"owes": ["parity", "device"]}).verdicts())
    assert names[:7] == [
        "exit", "left_behind", "stderr", "parity_logits", "parity_gradients", "parity_trace",
        "device",
    ]  # fmt: skip


def _has_float(value: object) -> bool:
    return isinstance(value, float) or (
        isinstance(value, tuple) and any(isinstance(entry, float) for entry in value)
    )


def _spoilt(value: Any, figure: float) -> list[Any]:
    """Return `value` with `figure` in its place, or in the place of one entry after the other."""
    if not isinstance(value, tuple):
        return [figure]
    return [(*value[:index], figure, *value[index + 1 :]) for index in range(len(value))]
