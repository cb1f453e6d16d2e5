"""What the probe writes in an honest run: five steps of AdamW over a LoRA adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    ProbeEnded,
    ProbeStarted,
    SeenBatch,
    SeenClip,
    SeenCoverage,
    SeenEvaluation,
    SeenGradient,
    SeenGroup,
    SeenLoaderWorker,
    SeenLoss,
    SeenModel,
    SeenMoved,
    SeenOptimizer,
    SeenPrecision,
    SeenSaved,
    SeenScaler,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
    SeenWeights,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

STEPS = 5
PASSES = 2
"""Micro-batches of a step."""
AUDITED = (0, 1, 4)

Change = Callable[[Any], Any]
"""Takes a record; returns another in its place, or None to leave it out."""


def honest_process(
    rank: int | None = None, together: int = 1, steps: int = STEPS
) -> WatchedProcess:
    """Return what is written in one process, of several that train together or alone."""
    pid, parent = 100 + (rank or 0), 10 + (rank or 0)
    versions = {"torch": "2.13.0"}
    began = ProbeStarted(pid, parent, 0.0, "train.py", "3.11.7", versions, rank, together)
    model = SeenModel(
        0, "LlamaForCausalLM", (), 30, 4, 10_000, 200, {"float32": 10_000}, {"float32": 200},
        {"cpu": 10_000}, (), adapters=2, dropouts=2,
    )  # fmt: skip
    optimizer = SeenOptimizer(0, "torch.optim.AdamW", "adamw", (SeenGroup(4, 200, 1e-3, 0.0),))
    records: list[object] = [began, model, optimizer]
    for step in range(steps):
        records += _passes(step, rank or 0, together)
        records += _step(step)
        if step in AUDITED:
            records += _audit(step, rank or 0, together)
    return WatchedProcess((*records, *_end(steps)))


def _passes(step: int, rank: int, together: int) -> list[object]:
    found: list[object] = []
    for number in range(PASSES):
        rows = tuple(f"{rank:04d}{step:06d}{number:03d}{row:03d}" for row in range(2))
        found.append(SeenBatch(0, step, number, 2, 16, 28, rows, 24, 0, 24, 0, 2, 2))
        if step in AUDITED:
            weight = together / 48 / together
            nats = 24 * weight * 3.0
            found.append(
                SeenLoss(
                    *(0, step, number, 30, 30, 24, 1.0, 0.0, 1, 24, 2, 24, 0, 0),
                    *(weight, weight, 24 * weight, nats, nats, 3.0),
                )
            )
    return found


def _step(step: int) -> list[object]:
    audited = step in AUDITED
    clip = SeenClip("norm", 1.0, 2.5, 4, 4, scaled=False, before_backward=False)
    return [
        SeenStep(
            optimizer=0,
            step=step,
            learning_rates=(1e-3 / (1 + step),),
            weight_decays=(0.0,),
            with_gradient=4,
            without_gradient=0,
            zero_gradient=0 if audited else None,
            gradient_norm=1.0 if audited else None,
            loss=3.0 - 0.01 * step,
            model_loss=3.0 - 0.01 * step,
            passes=PASSES,
            discarded=0,
            forwards=PASSES,
            rows=4,
            positions=64,
            tokens=56,
            labelled=48,
            kept=0,
            zeroed=1,
            zeroed_late=0,
            schedule_calls=1,
            evaluations=0,
            evaluations_training=0,
            training=1.0,
            dropouts_off=0,
            clips=(clip,),
            scaler=None,
            seconds=None if step == 0 else 0.1,
            memory=500_000_000,
            audited=audited,
        )
    ]


def _audit(step: int, rank: int, together: int) -> list[object]:
    # Each process computes its own gradient, and the mean reaches them all.
    own = tuple(value + 0.1 * rank for value in (0.1, -0.2, 0.3))
    mean = tuple(value + 0.1 * (together - 1) / 2 for value in (0.1, -0.2, 0.3))
    alone = together == 1
    backend = "" if alone else "gloo"
    return [
        SeenGradient(
            *(0, step, 4, 200, False, PASSES, 0),
            scale=0.4 if alone else 0.3,
            due=0.4,
            error=1e-6 if alone else 0.5,
            worst="q_proj.lora_A",
            last_error=0.7,
            tolerance=1e-4,
            own=own,
            reached=tuple(0.4 * value for value in mean),
        ),
        SeenUpdate(0, step, "adamw", 1e-5, "q_proj.lora_A", 4, 200, 4, 0, (), 0, 0, 0.1),
        SeenPrecision(0, step, "", "no", (), {"float32": 40}),
        SeenWeights(0, step, f"w{step}", f"g{step}", True, rank, together, backend),
    ]


def _end(steps: int) -> list[object]:
    return [
        SeenCoverage(steps, 4, 0, 0, (), 0, 0, 0, 0, (), 0, 0),
        SeenMoved(0, steps, True, 4, 4, (), 0, 2, 0, 0, (), 26, 0, (), False),
        SeenScheduler(0, "LambdaLR", 0, steps, 0, steps),
        SeenEvaluation(0, steps, 4, 0, 0, 4, 0),
        SeenSaved("model.safetensors", "safetensors", steps, 4, 4, 0, (), 0, 0, 4, 0, (), 0),
        SeenLoaderWorker(0, 2, 11, {"torch": "a", "numpy": "c"}, ("torch",)),
        SeenLoaderWorker(1, 2, 11, {"torch": "b", "numpy": "c"}, ("torch",)),
        ProbeEnded(3.0, "exit", "", steps * PASSES, steps * PASSES),
    ]


def changed(process: WatchedProcess, kind: type[Any], change: Change) -> WatchedProcess:
    """Return a process in which each record of a kind is exchanged for another."""
    records = (change(one) if isinstance(one, kind) else one for one in process.records)
    return replace(process, records=tuple(one for one in records if one is not None))


def fields(**values: Any) -> Change:
    """Return a change of some fields, to the same values in all records."""
    return lambda one: replace(one, **values)


SCALED = SeenScaler(1024.0, enabled=True, scaled_loss=True, unscaled=True)
"""A GradScaler that is used as it should be."""


def since(step: int, **values: Any) -> Change:
    """Return a change of some fields from a step on."""
    return lambda one: replace(one, **values) if one.step >= step else one


def of_pass(number: int, **values: Any) -> Change:
    """Return a change of some fields of one micro-batch of each step."""
    return lambda one: replace(one, **values) if one.pass_number == number else one


def with_records(run: Run, kind: type[Any], change: Change, *, rank: int | None = None) -> Run:
    """Change records of one process, or of all."""
    return run.leaving(
        watched=tuple(
            changed(one, kind, change) if rank in (None, one.rank) else one
            for one in run.evidence.watched
        )
    )
