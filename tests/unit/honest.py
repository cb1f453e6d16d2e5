"""What an honest QLoRA run leaves behind, made by hand: its configuration, bounds and events."""

from __future__ import annotations

from typing import Any

from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    AdapterShare,
    AdapterUse,
    AdapterUses,
    Arrivals,
    Attached,
    AttentionKernels,
    BaseWeights,
    Changed,
    Compute,
    Continuity,
    Coverage,
    Determinants,
    Device,
    Draws,
    DrawScores,
    Evaluation,
    EvaluationPasses,
    Event,
    Finished,
    Generation,
    GroupScales,
    Held,
    LayerFormula,
    LayerProduct,
    LayerScale,
    LayerWeight,
    LoadedParameter,
    LoggedEvaluation,
    LoggedStep,
    LogitError,
    Memory,
    Merged,
    MicroBatch,
    OptimizerStep,
    Parity,
    Phase,
    Reload,
    SavedSettings,
    Started,
    StepLoss,
    Storage,
    StoredLayer,
    StoredState,
    Switches,
    Throughput,
    TokenizerRules,
    Trainable,
    TrainedDtypes,
    Transfer,
)

FACTORS = tuple(f"{name}.lora_{factor}" for name in ("q_proj", "up_proj") for factor in "AB")

WEIGHTS = (LayerWeight("q_proj", 0.0913, 0.0912), LayerWeight("up_proj", 0.0931, 0.0930))

CONFIG: dict[str, Any] = {
    "recipe": {
        "name": "everything",
        "owes": (
            "process",
            "device",
            "base",
            "training",
            "texts",
            "generation",
            "parity",
            "transfer",
            "log",
            "files",
            "memory",
        ),
    },
    "model": {"name": "toy-llama", "path": "toyworld://base"},
    "backend": {"name": "cpu", "device": "cpu", "max_grad_norm": 1.0},
    "launcher": {"name": "single", "processes": 1},
    "method": {
        "name": "lora",
        "trains_base": False,
        "learning_rates": {"adaptive": 1e-2, "plain": 1.0},
        "implementation": {
            "rank": 8,
            "alpha": 16,
            "dropout": 0.1,
            "use_rslora": False,
            "use_dora": False,
        },
    },
    "quantizer": {
        "name": "bnb-nf4",
        "theory": {
            "weight_bits": 4,
            "group_size": 64,
            "group_bits": 8,
            "supergroup_size": 16384,
            "supergroup_bits": 32,
            "tensor_bits": 8736,
            "logit_error": 0.25,
            "rounding": {"code": "nf4", "bits": 4, "group_size": 64, "scale_error": 0.02},
        },
    },
    "precision": {
        "name": "fp32",
        "weights": "float32",
        "compute": "float32",
        "trained": "float32",
        "logit_error": 1e-5,
    },
    "optimizer": {"name": "adamw", "rate": "adaptive"},
    "scheduler": {"name": "constant"},
    "data": {"name": "text", "form": "text", "loss_on": "all", "packing": False},
    "train": {
        "max_steps": 4,
        "batch_size": 2,
        "accumulation": 2,
        "learning_rate": 0.01,
        "warmup_steps": 0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "max_length": 128,
        "streaming": False,
        "too_long": "refuse",
        "label_smoothing": 0.0,
        "logging_steps": 1,
        "seed": 0,
        "loss_on": "all",
        "interrupt_at": 2,
        "eval_steps": 2,
        "load_best": False,
        "weight_decay": 0.0,
        "checkpointing": "non-reentrant",
        "rows": 0,
        "compile": "none",
        "padding": "pad",
        "end_token": "trainer",
        "adapter_start": "library",
        "threads": 1,
    },
    "dpo": {"beta": 0.1, "lengths": "equal"},
    "generate": {"prompts": 4, "most": 80, "temperature": 1.0},
    "meters": {
        "held_out_rows": 64,
        "allocator": False,
        "merge": True,
        "adapters": True,
        "tensors": False,
        "loaders": False,
        "dequantized": False,
    },
}

BOUNDS: dict[str, Any] = {
    "test_id": "qlora",
    "recipe": "sft",
    "loss": {"first_min": 4.0, "first_max": 6.0, "final_min": 1.0, "final_max": 3.0},
    "gap_closed": {"min": 0.85, "max": 1.0},
    "memory": {
        "stored_mb": {"min": 0.2, "max": 0.4},
        "allocator_peak_mb": {"max": 120.0},
        "process_peak_mb": {"max": 80.0},
    },
    "throughput": {"min_tokens_per_second": 1000.0},
    "merge": {"max": 0.02},
    "generation": {"min_grammatical": 0.7},
    "parity": {"logits": 2e-4, "gradients": 1e-4, "trace": 5e-4},
    "transfer": {"max_difference": 1e-4},
    "stderr": {"forbidden_patterns": ["out of memory"], "warn_patterns": ["deprecated"]},
    "expected_files": ["model/adapter_config.json"],
    "min_steps_logged": 4,
}


def _steps() -> list[Event]:
    """Four optimizer steps of two micro-batches; the first two gradients are clipped to 1."""
    events: list[Event] = []
    for step, (loss, norm) in enumerate(((5.0, 3.0), (4.0, 2.0), (3.0, 0.8), (2.0, 0.5))):
        audited = 2 if step < 2 else 0
        events += [
            MicroBatch(
                step, 2, 10, 18, audited, audited, (1,), 1, 0, beside=0, counted=17, nats=nats
            )
            for nats in (17 * loss + 0.5, 17 * loss - 0.5)
        ]
        if step < 2:
            events.append(StepLoss(step, loss, 34))
        deviation = 7e-7 if step < 2 else None
        moved = 0.99 if step < 2 else None
        error = 1e-6 if step < 2 else None
        stretch = 1 if step >= 2 else 0
        clipped, own = min(norm, 1.0), norm if step < 2 else None
        events.append(OptimizerStep(step, (0.01,), clipped, deviation, error, stretch, moved, own))
        events.append(LoggedStep(step + 1, loss, norm, 0.01))
        if step % 2:
            events.append(LoggedEvaluation(step + 1, loss))
            events.append(EvaluationPasses(step + 1, loss, loss + 0.01, 8, 8, 8, 0))
    return events


def _texts() -> tuple[Event, ...]:
    """Four texts for each way to generate: greedy ones, and drawn ones under two seeds."""
    greedy, first, second = ("g1", "g2", "g3", "g4"), ("a1", "a2", "a3", "a4"), tuple("pqrs")
    return (
        *(Generation(None, cache, greedy, 4, 13.7, 17.0) for cache in (True, False)),
        *(Generation(0, cache, first, 3, 16.8, 17.0) for cache in (True, False, True)),
        Generation(1, True, second, 4, 17.4, 17.0),
        DrawScores(0.7, (4e-7, 5e-7, 0.0, 2e-7)),
    )


def honest_events() -> tuple[Event, ...]:
    """What LoRA over NF4 writes down; bytes and errors are those of a real run."""
    layers = (
        StoredLayer("q_proj", (128, 128), 9544),
        StoredLayer("up_proj", (256, 128), 17996),
    )
    return (
        Started(17, {"cpus": 2}, {"torch": "2.13.0"}),
        Determinants({"seed": 0, "threads": 1}),
        TokenizerRules(5, ()),
        Evaluation("before", 5.4, 0.4),
        Phase("reference", 1.5),
        Storage(layers, 318_088),
        BaseWeights(
            WEIGHTS,
            (LayerProduct("q_proj", 2e-7, 2e-7), LayerProduct("up_proj", 3e-7, 1e-7)),
            (LoadedParameter("norm", 0.0),),
            (LayerWeight("q_proj", 0.0921, 0.0903), LayerWeight("up_proj", 0.0947, 0.0931)),
            (LoadedParameter("norm", 2e-7), LoadedParameter("rotary_emb", 4e-6)),
            (StoredState("q_proj#3", 24),),
            (LoadedParameter("norm", 3e-7),),
            (
                GroupScales("q_proj", -0.007, 4e-4, 2e-3, 256),
                GroupScales("up_proj", 0.006, -3e-4, 2e-3, 512),
            ),
        ),
        LogitError(0.166),
        Trainable(FACTORS, FACTORS),
        Attached(0.0, 14.0, drawn=False, apart=0.22, width=1.001, numbers=28_672),
        Draws(0),
        *_steps(),
        Held("before", 1_300),
        Held("during", 24_000),
        Held("after", 2_700),
        Memory("process_peak", 64_000_000, "VmHWM, cleared"),
        Compute(("float32",), ("float32",), AttentionKernels(2, 2)),
        Switches({"threads": "1", "default dtype": "torch.float32"}, 4, {}),
        TrainedDtypes(("float32",), ("float32",), ("float32",)),
        AdapterDropout(500_000, 50_000, 1 / 0.9, 100_000, 82_000),
        Device({"cpu": 48}, ("cpu",)),
        Throughput(20_000, 10.0),
        Changed(FACTORS, (), (), (), 93),
        Continuity(5, ()),
        Coverage(20, 16, 0, 0.05, 0),
        Arrivals(4, 3e-7, "q_proj.lora_A in step 2", ()),
        AdapterScale((LayerScale("q_proj", 1.999), LayerScale("up_proj", 2.001))),
        AdapterFormula(
            (
                LayerFormula("q_proj", 2e-7, 3e-7, 0.5, 8, 1e-7),
                LayerFormula("up_proj", 2e-7, 2e-7, 0.4, 8, 1e-7),
            )
        ),
        SavedSettings("merged", ()),
        Phase("train", 10.5),
        Evaluation("after", 0.8, 0.4),
        Reload(1e-5, 13.0),
        Merged(0.13, 13.0, (AdapterShare("q_proj", 0.95, 0.004, 1e-4, 1e-4),)),
        AdapterUses((AdapterUse("switched on again", 1e-5),), 13.0),
        Memory("allocator_peak", 112_000_000, "profiler"),
        *_texts(),
        Parity("logits", 2e-5, "token 95, entry 137", {}),
        Parity("gradients", 3e-6, "q_proj", {"q_proj": 0.5, "up_proj": 0.25}),
        Parity("trace", 2e-6, "step 6", {"01": 8.5, "02": 5.8}),
        Transfer("peft", 0.0, 10.4),
        Transfer("mlx-lm", 4e-6, 9.2),
        Finished(),
    )
