"""For each check the fault that it must fail on, planted in honest evidence, and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

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
    SavedSettings,
    Storage,
    Switches,
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
        lambda run: run.edited(MicroBatch, layer_calls=(2,)),
        "[1, 2]",
        "1",
        "layers ran [1, 2] times per micro-batch, not 1; checkpointing was ignored",
    ),
    "activations": (
        lambda run: run.edited(MicroBatch, 0, stale=3),
        3,
        "0",
        "in 8 passes 0 of the decoder layers' inputs were kept though they are computed again",
    ),
    "precision": (
        lambda run: run.edited(Compute, products=("bfloat16", "float32")),
        "bfloat16, float32",
        "float32",
        "mixed precision was ignored or leaks",
    ),
    "attention_kernel": (
        lambda run: run.edited(Compute, attention=(1, 2)),
        1,
        ">= 2",
        "1 of 2 layers computed attention in a kernel; the others multiplied and took a softmax",
    ),
    "switches": (
        lambda run: run.edited(Switches, changed={"threads": (0, "2")}),
        1,
        "0",
        "threads was 1, and 2 after step 0; a library sets it for the whole process, and all that",
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
    "logged_rate": (
        lambda run: run.edited(LoggedStep, 1, learning_rate=0.02),
        0.01,
        "<= 1e-08",
        "neither its own nor the next one's",
    ),
    "clipping": (
        lambda run: run.edited(OptimizerStep, 0, gradient_norm=3.0),
        3.0,
        "1 within 0.01%",
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
        lambda run: run.recording(
            AdapterFormula((("q_proj", 2e-7, 0.2, 0.5), ("up_proj", 0.1, 0.1, 0.5)))
        ),
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
    "held": (
        lambda run: run.edited(Held, 1, beside=318_088),
        1.0,
        "<= 0.2",
        "after training 0.3 MB are held beside the model and its gradients, 100% of what the base",
    ),
    "adapter_rank": (
        lambda run: run.recording(AdapterFormula((("q_proj", 2e-7, 2e-7, 3e-8),))),
        3e-8,
        ">= 0.0001",
        "the rows of q_proj's first factor depend on each other (least over largest singular value",
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
