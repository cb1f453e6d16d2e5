"""Every check: passes honest evidence, fails the planted fault, and never does without evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.checks.judge import OF_A_RECIPE, OF_THE_PROCESS, OF_THE_SPEC
from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    Attached,
    BaseWeights,
    Changed,
    Compute,
    Continuity,
    Coverage,
    Device,
    Draws,
    Evaluation,
    EvaluationPasses,
    Event,
    Finished,
    Generation,
    LoggedEvaluation,
    LoggedStep,
    LogitError,
    Memory,
    Merged,
    MicroBatch,
    OptimizerStep,
    Parity,
    Reload,
    SavedSettings,
    StepLoss,
    Storage,
    Throughput,
    Trainable,
    TrainedDtypes,
    Transfer,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

PLANTED: dict[str, tuple[Callable[[Run], Run], float | str | None, str, str]] = {
    # check: what is planted, measured value, bound, part of the cause
    "exit": (
        lambda run: run.ending(code=None, signal="SIGKILL"),
        "SIGKILL",
        "exit code 0, at the end",
        "memory ran out",
    ),
    "left_behind": (
        lambda run: run.ending(leftovers=("python serve.py",)),
        1,
        "0",
        "python serve.py; likely a server",
    ),
    "stderr": (
        lambda run: run.leaving(stderr="a\nCUDA out of memory\n"),
        1,
        "0",
        "CUDA out of memory",
    ),
    "device": (
        lambda run: run.recording(Device({"cpu": 48}, ("cpu", "cuda"))),
        "cpu, cuda",
        "cpu",
        "a fallback",
    ),
    "stored_bits": (
        lambda run: run.edited(
            Storage, layers=(("q_proj", (128, 128), 9544), ("up_proj", (256, 128), 131_072))
        ),
        32.0,
        "4.394 within 1%, the worst of 2 layers",
        "up_proj stores 32.000 bits per weight, bnb-nf4 in theory 4.394; it wasn't quantized",
    ),
    "base_weights": (
        lambda run: run.edited(BaseWeights, layers=(("q_proj", 0.12, 0.0912),)),
        0.12,
        "0.08664 to 0.09394 for q_proj, the worst of 2 tensors",
        "q_proj of the loaded base is off its checkpoint by 0.12 of its norm; rounding it plainly",
    ),
    "base_products": (
        lambda run: run.edited(BaseWeights, products=(("up_proj", 2e-7, 0.02),)),
        0.02,
        "<= 1e-05",
        "the gradient of up_proj is off by 0.02 from that of the weight it stands for: a kernel",
    ),
    "logit_error": (
        lambda run: run.recording(LogitError(0.9)),
        0.9,
        "0.025 to 0.25001",
        "the quantizer loses more than it should",
    ),
    "trainable": (
        lambda run: run.edited(Trainable, actual=("q_proj.lora_A", "q_proj.lora_B", "norm")),
        3,
        "4 by name",
        "2 of 4 expected parameters don't train (up_proj.lora_A, up_proj.lora_B); "
        "1 unexpected ones do (norm); likely target modules",
    ),
    "labels": (
        lambda run: run.edited(MicroBatch, 0, faithful=0),
        0.75,
        "1",
        "75% of 8 rows count exactly their all tokens and the end token; the rest have shuffled",
    ),
    "micro_batches": (
        lambda run: run.recording(*run.evidence.all(MicroBatch)[1:]),
        "[1, 2] per step",
        "2 per step, each of 2 rows",
        "steps with [1] micro-batches, micro-batches of []; accumulation",
    ),
    "gradient_checkpointing": (
        lambda run: run.edited(MicroBatch, layer_calls=2),
        "[1, 2]",
        "1",
        "ran [1, 2] times per micro-batch, not 1; checkpointing was ignored",
    ),
    "activations": (
        lambda run: run.edited(MicroBatch, 0, stale=3),
        3,
        "0",
        "in 8 passes 0 of the first layer's inputs were kept though they are computed again, and 3",
    ),
    "precision": (
        lambda run: run.edited(Compute, products=("bfloat16", "float32")),
        "bfloat16, float32",
        "float32",
        "mixed precision was ignored or leaks",
    ),
    "trained_dtypes": (
        lambda run: run.edited(TrainedDtypes, state=("bfloat16",)),
        "moments bfloat16",
        "float32",
        "moments bfloat16 where float32 was promised; adapters that follow",
    ),
    "adapter_dropout": (
        lambda run: run.edited(AdapterDropout, zeroed=0),
        0.0,
        "0.1 within 0.0025",
        "0.000% of the adapters' inputs were dropped in training, configured are 10.000%",
    ),
    "dropout_factor": (
        lambda run: run.edited(AdapterDropout, factor=1.0),
        1.0,
        "1.1111 within 1%",
        "was multiplied by 1, not by 1.1111; adapters learn at another scale",
    ),
    "dropout_independent": (
        lambda run: run.edited(AdapterDropout, alike=91_000),
        0.91,
        "0.82 within 0.0073",
        "91.000% of the masks of two rows or two steps agree, by chance 82.000% do",
    ),
    "attached": (
        lambda run: run.edited(Attached, difference=0.02),
        0.02,
        "<= 0.00014",
        "attaching changed logits by 0.02 before any step; an adapter that doesn't start at zero",
    ),
    "seed": (
        lambda run: run.edited(Draws, seed=42),
        42,
        "0",
        "training began with seed 42; a library's default",
    ),
    "coverage": (
        lambda run: run.edited(Coverage, uneven=3),
        3,
        "0",
        "3 rows were seen too often or too seldom, 5% were followed by the next one of the data",
    ),
    "evaluation_loss": (
        lambda run: run.edited(EvaluationPasses, 0, training=2),
        2,
        "0",
        "0 rows aren't held out or labelled otherwise, 0 evaluations left rows out, 2 passes were",
    ),
    "continuity": (
        lambda run: run.edited(Continuity, broken=("moments before step 2",)),
        1,
        "0",
        "moments before step 2: something else than the optimizer changed them; likely weights",
    ),
    "moved_share": (
        lambda run: run.edited(OptimizerStep, 1, moved=0.03),
        0.03,
        ">= 0.5",
        "3.0% of the elements with a gradient moved in the worst of 2 steps; the rest was rounded",
    ),
    "first_loss": (
        lambda run: run.edited(LoggedStep, 0, loss=4.6500001),
        0.07,
        "<= 2e-05",
        "logged 4.65, its batch's cross-entropy is 5 over 34 tokens; likely a wrong divisor",
    ),
    "step_losses": (
        lambda run: run.edited(LoggedStep, 1, loss=3.92000002),
        0.02,
        "<= 2e-05",
        "step 1 logged 3.92, its batches' cross-entropy is 4 over 34 tokens; likely a loss of",
    ),
    "learning_rate": (
        lambda run: run.edited(OptimizerStep, 2, learning_rates=(0.01, 0.004)),
        0.006,
        "<= 1e-08 in each of 4 steps",
        "step 2 used 0.004, constant from 0.01 with 0 warm-up steps asks for 0.01; "
        "the scheduler was ignored",
    ),
    "clipping": (
        lambda run: run.edited(OptimizerStep, 0, gradient_norm=3.0),
        3.0,
        "1 within 0.0001",
        "step 0 gave the optimizer a gradient of norm 3 where 1 was due under a limit of 1; "
        "clipping was ignored",
    ),
    "gradient": (
        lambda run: run.edited(OptimizerStep, 1, gradient_error=0.15),
        0.15,
        "<= 0.0001",
        "of step 1 differ from those of its loss by 15.00% of the largest, their norm before or",
    ),
    "interrupted": (
        lambda run: run.edited(OptimizerStep, 2, stretch=0),
        "3",
        "after step 2",
        "the interruption was ignored",
    ),
    "evaluations": (
        lambda run: run.edited(LoggedEvaluation, 0, loss=math.nan),
        2,
        "2 or more, each finite",
        "its loss isn't finite",
    ),
    "optimizer_update": (
        lambda run: run.edited(OptimizerStep, 1, deviation=0.39),
        0.39,
        "<= 0.0005",
        "differ from adamw's formula by 39.00% of the largest; another optimizer ran",
    ),
    "moved": (
        lambda run: run.edited(
            Changed, moved=run.evidence.all(Changed)[0].moved[:3], still=("up_proj.lora_B",)
        ),
        3,
        "4",
        "1 of 4 trained tensors never moved (up_proj.lora_B); likely a rate of 0",
    ),
    "frozen": (
        lambda run: run.edited(Changed, altered=("q_proj#0",)),
        1,
        "0",
        "1 of 93 frozen tensors changed (q_proj#0); likely a base that wasn't frozen",
    ),
    "adapter_formula": (
        lambda run: run.recording(AdapterFormula((("q_proj", 2e-7, 0.2), ("up_proj", 0.1, 0.1)))),
        0.2,
        "<= 0.0001",
        "the gradient of q_proj is off by 0.2 from its formula's; a factor that is left out",
    ),
    "saved_settings": (
        lambda run: run.recording(
            SavedSettings("model", ("generation_config.json: eos_token_id 1 → null",))
        ),
        1,
        "0",
        "model/generation_config.json: eos_token_id 1 → null; who loads it gets another model",
    ),
    "adapter_scale": (
        lambda run: run.recording(AdapterScale((1.0, 2.0))),
        0.5,
        "<= 0.02",
        "measured 1 to 2, configured 2; alpha, rank or its root was ignored",
    ),
    "reload": (
        lambda run: run.edited(Reload, max_difference=7.4),
        7.4,
        "<= 0.00013",
        "logits differ by 7.4 after saving and loading (training itself changed them by 13); "
        "a tensor wasn't saved",
    ),
    "merge": (
        lambda run: run.edited(Merged, max_difference=1.3),
        0.1,
        "<= 0.02",
        "logits differ by 1.3 after merging, 10.00% of what training changed; the merge rounds",
    ),
    "grammatical": (
        lambda run: run.edited(Generation, stories=0),
        0.5625,
        ">= 0.7",
        "56% of the greedy or of the sampled texts are stories; likely another model or prompt",
    ),
    "cache": (
        lambda run: run.edited(Generation, 1, texts=("g1", "g2", "gx", "gy")),
        2,
        "0",
        "2 of 12 texts differ from those drawn by the definition",
    ),
    "seeded": (
        lambda run: run.edited(Generation, 4, texts=("a1", "a2", "a3", "ax")),
        1,
        "0",
        "1 texts changed under the same seed, 0 didn't under another; the seed was ignored",
    ),
    "sampled_nats": (
        lambda run: run.edited(Generation, 4, nats=13.7).edited(Generation, 5, nats=13.7),
        -3.3,
        "0 within 1.85",
        "7 stories have -3.3 nats over the grammar's entropy; below, the temperature was ignored",
    ),
    "parity_logits": (
        lambda run: run.edited(Parity, 0, difference=0.03),
        0.03,
        "<= 0.0002",
        "off by 0.03 at token 95, entry 137; likely another attention scale",
    ),
    "parity_gradients": (
        lambda run: run.edited(Parity, 1, difference=0.01),
        0.01,
        "<= 0.0001",
        "off by 0.01 at q_proj; likely a loss over another count",
    ),
    "parity_trace": (
        lambda run: run.edited(Parity, 2, difference=0.045),
        0.045,
        "<= 0.0005",
        "off by 0.045 at step 6; likely another rate",
    ),
    "transfer": (
        lambda run: run.edited(Transfer, 1, difference=7.4),
        7.4,
        "<= 0.0001",
        "logits of the mlx-lm adapter differ by 7.4 from what its own engine gave (training "
        "changed them by 9.2); likely a scale",
    ),
    "steps_logged": (
        lambda run: run.recording(*run.evidence.all(LoggedStep)[:3]),
        3,
        ">= 4",
        "training was to log every 1 of 4 steps and didn't after 4; it ended early",
    ),
    "expected_files": (
        lambda run: run.leaving(files=("model/README.md",)),
        0,
        "1",
        "not made by this run: model/adapter_config.json; it made model/README.md; likely saving",
    ),
    "finite_loss": (
        lambda run: run.edited(LoggedStep, 2, loss=math.nan),
        1,
        "0",
        "step 3 logged nan; likely an overflow",
    ),
    "first_logged_loss": (
        lambda run: run.edited(LoggedStep, 0, loss=11.3),
        11.3,
        "4 to 6",
        "step 1 logged 11.3 nats per token; likely a base that loaded as something else",
    ),
    "final_loss": (
        lambda run: run.edited(LoggedStep, 3, loss=4.9),
        4.9,
        "1 to 3",
        "step 4 logged 4.9 nats per token; likely too few steps",
    ),
    "gap_closed": (
        lambda run: run.edited(Evaluation, 1, loss=4.4),
        0.2,
        "0.85 to 1",
        "went from 5.4000 to 4.4000 nats/token over a floor of 0.4000; likely the wrong",
    ),
    "memory_stored": (
        lambda run: run.edited(Storage, total_bytes=1_444_480),
        1.44448,
        "0.2 to 0.4",
        "1.4 MB; likely another dtype",
    ),
    "memory_allocator_peak": (
        lambda run: run.edited(Memory, 1, bytes=412_000_000),
        412.0,
        "<= 120",
        "412.0 MB; likely another dtype",
    ),
    "memory_process_peak": (
        lambda run: run.edited(Memory, 0, bytes=364_000_000),
        364.0,
        "<= 80",
        "364.0 MB; likely another dtype",
    ),
    "throughput": (
        lambda run: run.edited(Throughput, seconds=40.0),
        500.0,
        ">= 1000",
        "training took in 500.0 tokens a second; likely a slower device",
    ),
}

ABSENT: dict[type[Event], set[str]] = {
    Device: {"device"},
    Attached: {"attached"},
    Draws: {"seed"},
    Storage: {"stored_bits", "memory_stored"},
    BaseWeights: {"base_weights", "base_products"},
    LogitError: {"logit_error"},
    Trainable: {"trainable"},
    MicroBatch: {"labels", "micro_batches", "gradient_checkpointing", "activations"},
    Compute: {
        "adapter_formula",
        "clipping",
        "gradient",
        "optimizer_update",
        "precision",
        "reload",
    },
    StepLoss: {"first_loss", "step_losses"},
    LoggedEvaluation: {"evaluations", "evaluation_loss"},
    LoggedStep: {
        "first_loss",
        "step_losses",
        "clipping",
        "finite_loss",
        "first_logged_loss",
        "final_loss",
        "steps_logged",
    },
    OptimizerStep: {
        "learning_rate",
        "clipping",
        "gradient",
        "optimizer_update",
        "interrupted",
        "moved_share",
    },
    Changed: {"moved", "frozen"},
    Continuity: {"continuity"},
    Coverage: {"coverage"},
    EvaluationPasses: {"evaluation_loss"},
    AdapterScale: {"adapter_scale"},
    AdapterFormula: {"adapter_formula"},
    AdapterDropout: {"adapter_dropout", "dropout_factor", "dropout_independent"},
    TrainedDtypes: {"trained_dtypes"},
    Reload: {"reload"},
    Merged: {"merge"},
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
    (LoggedEvaluation, "loss"),
    (Coverage, "successive"),
    (LoggedStep, "loss"),
    (LoggedStep, "gradient_norm"),
    (AdapterScale, "measured"),
    (AdapterDropout, "factor"),
    (Attached, "difference"),
    (Attached, "largest"),
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
    # A recipe trains on stories or on preferences; test_preference_checks.py has the latter.
    owed = {check for what, checks in OF_A_RECIPE.items() if what != "prefers" for check in checks}
    asked = len(OF_THE_PROCESS) + len(owed) + len(OF_THE_SPEC)
    # A warning is there only when there is one; one process is no several.
    assert len(verdicts) == asked - 2
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
    assert verdict.bound == bound
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
        assert "the run left no record of" in verdicts[name].message
        assert verdicts[name].bound.startswith("a record of")


def test_a_run_without_an_end_proves_nothing(run: Run) -> None:
    """Exit code 0 before the recipe's end fails, and nothing else is judged then."""
    verdicts = run.without(Finished).verdicts()
    assert verdicts["exit"].outcome == "failed"
    assert "it proved nothing" in verdicts["exit"].message
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
        .configured(recipe=dict.fromkeys(OF_A_RECIPE, False), meters={"merge": False})
    )
    fetched = type(run)(fetched.evidence, bounds, fetched.config).leaving(files=("config.json",))
    assert set(fetched.verdicts()) == {"exit", "left_behind", "stderr", "expected_files"}
    assert not fetched.failed()
    assert fetched.leaving(files=()).failed() == {"expected_files"}


def _has_float(value: object) -> bool:
    return isinstance(value, float) or (
        isinstance(value, tuple) and any(isinstance(entry, float) for entry in value)
    )


def _spoilt(value: Any, figure: float) -> list[Any]:
    """Return `value` with `figure` in its place, or in the place of one entry after the other."""
    if not isinstance(value, tuple):
        return [figure]
    return [(*value[:index], figure, *value[index + 1 :]) for index in range(len(value))]
