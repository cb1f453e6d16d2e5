"""Training that is interrupted, scrambled and resumed from disk goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
from transformers import Trainer

from tunematrix.errors import BadInput
from tunematrix.evidence.events import OptimizerStep, Throughput
from tunematrix.stack.engines.torch import interruption

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall, Small

DROPOUT: dict[str, object] = {"method__implementation__dropout": 0.1}
STEPS = {"train__max_steps": 5, "meters__tensors": True}
RESUMED = {**STEPS, "train__interrupt_at": 3}


def differing(one: Small, other: Small) -> set[str]:
    """Name the kinds of tensors that aren't bitwise equal."""
    assert one.tensors.keys() == other.tensors.keys()
    return {
        key.kind
        for key, tensor in one.tensors.items()
        if not np.array_equal(tensor, other.tensors[key], equal_nan=True)
    }


CELLS: dict[str, tuple[str, dict[str, object]]] = {
    "dropout": ("lora", DROPOUT),
    "full": ("full", {}),
    "linear": ("lora", {"scheduler": "linear", **DROPOUT}),
    "accumulation": ("lora", {"train__accumulation": 2, **DROPOUT}),
    "epochs": ("lora", {"train__rows": 8, **DROPOUT}),
    "end of an epoch": ("lora", {"train__rows": 12, **DROPOUT}),
    "bf16": ("lora", {"precision": "bf16", **DROPOUT}),
    "full, bf16": ("full", {"precision": "bf16"}),
    "torchao-int4": ("lora", {"quantizer": "torchao-int4", **DROPOUT}),
    "magnitudes": ("dora", {}),
    "modules to save": ("lora", {"method__implementation__modules_to_save": ["lm_head"]}),
    "packed": ("lora", {"data": "packed"}),
    "checkpointing": ("lora", {"train__gradient_checkpointing": True, **DROPOUT}),
}


@pytest.mark.each_time(2)
@pytest.mark.parametrize("cell", CELLS)
def test_resumed_is_uninterrupted(run_small: RunSmall, cell: str) -> None:
    """Parameters and gradients at each step, and all states at the end, are bitwise equal."""
    method, settings = CELLS[cell]
    straight = run_small(method, **STEPS, **settings)
    resumed = run_small(method, **RESUMED, **settings)
    assert straight.failed == resumed.failed == set()
    assert differing(straight, resumed) == set()
    assert {"parameter", "gradient", "state", "random"} <= {key.kind for key in resumed.tensors}


def no_optimizer(self: Trainer, checkpoint: str | None) -> None:
    """Restore nothing of optimizer and schedule."""


def no_generators(self: Trainer, checkpoint: str | None) -> None:
    """Leave the generators as they are."""


SAVE = Trainer._save_checkpoint


def all_but_one_tensor(self: Trainer, *args: Any, **kwargs: Any) -> None:
    """Save a checkpoint, and lose one tensor of its adapter."""
    SAVE(self, *args, **kwargs)
    (adapter,) = Path(str(self.args.output_dir)).glob("checkpoint-*/adapter_model.safetensors")
    kept = safetensors.torch.load_file(adapter)
    del kept[next(name for name in kept if "lora_B" in name)]
    safetensors.torch.save_file(kept, adapter, metadata={"format": "pt"})


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("_load_optimizer_and_scheduler", no_optimizer),
        ("_load_rng_state", no_generators),
        ("_save_checkpoint", all_but_one_tensor),
    ],
)
def test_what_is_not_restored_shows(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch, method: str, fault: Any
) -> None:
    """Each thing that a checkpoint is for, left out, makes another run of it."""
    straight = run_small(**STEPS, **DROPOUT)
    monkeypatch.setattr(Trainer, method, fault)
    resumed = run_small(**RESUMED, **DROPOUT)
    assert {"parameter", "state"} <= differing(straight, resumed)


def test_meters_see_both_stretches_and_not_what_lies_between(run_small: RunSmall) -> None:
    """Steps go on counting with a second optimizer; the restart is no training time."""
    straight, resumed = run_small(**STEPS), run_small(**RESUMED)
    steps = resumed.evidence.all(OptimizerStep)
    assert [(s.step, s.stretch) for s in steps] == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]
    before, after = (ran.evidence.one(Throughput) for ran in (straight, resumed))
    assert before is not None and after is not None
    assert after.tokens == before.tokens
    assert resumed.verdicts["interrupted"].outcome == "passed"
    assert (resumed.folder / "output" / "trainer" / "checkpoint-3" / "optimizer.pt").exists()


def test_an_interruption_that_never_came_fails(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that trains on is uninterrupted, and equal to itself."""

    def once(model: Any, make: Callable[[], Trainer], *_: Any) -> Any:
        return make().train

    monkeypatch.setattr(interruption, "prepare", once)
    assert run_small(**RESUMED).failed == {"interrupted"}


def test_a_stretch_without_autocast_fails(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second trainer on a model that the first has wrapped computes in float32, unseen by it."""
    monkeypatch.setattr(interruption, "unwrapping", lambda _: lambda: None)
    assert run_small("full", **RESUMED, precision="bf16").failed == {"precision"}


def test_an_interruption_outside_of_training_is_refused(run_small: RunSmall) -> None:
    """There is nothing left to train, or nothing at all."""
    with pytest.raises(ValueError, match="interrupt_at=5"):
        run_small(**STEPS, train__interrupt_at=5)
    with pytest.raises(BadInput, match=r"interrupt_at: 6 is beyond train\.max_steps"):
        run_small(**STEPS, train__interrupt_at=6)


@pytest.mark.parametrize(("method", "backend"), [("custom-lora", "cpu"), ("lora", "mlx")])
def test_loops_that_save_too_little_refuse(run_small: RunSmall, method: str, backend: str) -> None:
    """Neither the plain loop nor mlx-lm saves what resuming takes."""
    with pytest.raises(ValueError, match="interrupt_at=3"):
        run_small(method, backend, **RESUMED)
