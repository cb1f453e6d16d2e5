"""Checks of a trainer's command: honest evidence passes, and each planted fault fails its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    Command,
    Completion,
    DeviceMemory,
    Finished,
    Launched,
    LibraryLoaded,
    LoggedStep,
    LogSource,
    NoCompletion,
    NoTrainerLog,
    Repository,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def _losses(*losses: float, rate: float = 0.1, norm: float = 1.0) -> tuple[LoggedStep, ...]:
    return tuple(LoggedStep(n, loss, norm, rate) for n, loss in enumerate(losses, start=1))


def _on_mlx(run: Run) -> Run:
    return run.without(DeviceMemory, LibraryLoaded).configured(
        backend={"name": "mlx", "device": "mlx", "gpu": False, "library": "libmlx"}
    )


# What is planted, the check that must fail, and a part of its message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str, str]] = {
    "an old log": (
        lambda run: run.without(LogSource, LoggedStep).recording(NoTrainerLog("of an earlier run")),
        "trainer_log",
        "of an earlier run",
    ),
    "a flat loss": (
        lambda run: run.recording(*_losses(2.0, 2.0, 2.0, 2.0)),
        "loss_falls",
        "it went from 2 to 2",
    ),
    "a rate of 0": (
        lambda run: run.recording(*_losses(2.9, 2.5, 2.1, 2.0, rate=0.0)),
        "learning_rate_logged",
        "warm-up that is longer than the run",
    ),
    "a hidden nan": (
        lambda run: run.recording(*_losses(5.5, 0.0, 0.0, 0.0)),
        "finite_loss",
        "a loss of exactly 0 after 5.5",
    ),
    "a gradient of nan": (
        lambda run: run.recording(*_losses(5.5, 3.0, 2.0, 1.5, norm=math.nan)),
        "finite_loss",
        "a gradient norm of nan",
    ),
    "a launcher that started one": (
        lambda run: run.edited(Launched, processes=1),
        "ranks_started",
        "2 processes were to train together, and 1 did (processes with a log of their own); likely",
    ),
    "a file beside the code": (
        lambda run: run.recording(Repository(("p/cache.bin",), "git status")),
        "repository_clean",
        "p/cache.bin",
    ),
    "a trainer on the CPU": (
        lambda run: run.recording(DeviceMemory(0, "growth of the devices' used memory")),
        "gpu_used",
        "likely it trained on the CPU",
    ),
    "an unread device": (
        lambda run: run.without(DeviceMemory),
        "gpu_used",
        "no reading of the memory on the GPU",
    ),
    "a trainer that takes another library": (
        lambda run: _on_mlx(run).recording(LibraryLoaded("libmlx", loaded=False)),
        "library_loaded",
        "no process of the command loaded libmlx, so backend mlx computed nothing",
    ),
    "an unread memory": (
        lambda run: _on_mlx(run),
        "library_loaded",
        "no reading of whether a process loaded libmlx",
    ),
    "nonsense": (
        lambda run: run.edited(Completion, perplexity=900.0),
        "completion_perplexity",
        "poorly trained",
    ),
    "an empty completion": (
        lambda run: run.edited(Completion, text=" "),
        "completion_perplexity",
        "was completed with ' '",
    ),
    "no completion": (
        lambda run: run.without(Completion).recording(NoCompletion("the server ended")),
        "completion_perplexity",
        "the server ended",
    ),
    "too few lines": (
        lambda run: run.recording(*_losses(4.5)).asked(min_steps_logged=2),
        "steps_logged",
        "raise max_steps to logging_steps + 1",
    ),
}


def test_a_library_that_is_loaded(commanding: Run) -> None:
    """It passes; backends that name none, and commands that failed, aren't asked for one."""
    loaded = _on_mlx(commanding).recording(LibraryLoaded("libmlx", loaded=True))
    assert loaded.failed() == set()
    assert "library_loaded" in loaded.verdicts()
    unnamed = commanding.configured(backend={"library": ""})
    assert "library_loaded" not in unnamed.verdicts()
    assert "library_loaded" not in _on_mlx(commanding).without(Finished).verdicts()


def test_honest_evidence_passes(commanding: Run) -> None:
    """Of a command that trained, saved, was served, and left the repository clean."""
    assert commanding.failed() == set()
    assert {"trainer_log", "loss_falls", "gpu_used"} <= set(commanding.verdicts())


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check(commanding: Run, name: str) -> None:
    """With what was measured, and a likely cause."""
    plant, check, message = PLANTED[name]
    verdict = plant(commanding).verdicts()[check]
    assert verdict.outcome == "failed"
    assert message in verdict.message


@pytest.mark.parametrize(
    "losses",
    [(3.0, 2.0), (2.0, 3.0), (0.02, 0.01, 0.004, 0.0), (3.0, 3.1, 2.8, 2.9), (1.0, 2.0, 3.0)],
)
def test_honest_logs_pass(commanding: Run, losses: tuple[float, ...]) -> None:
    """Short ones say nothing of the loss; noise, and a loss that vanishes, are no faults."""
    failed = commanding.asked(loss={}).recording(*_losses(*losses)).failed()
    assert failed == set()


def test_a_loss_that_need_not_fall(commanding: Run) -> None:
    """The spec may allow it, or want it of two lines already."""
    rising = commanding.recording(*_losses(1.0, 1.2, 1.4, 1.6))
    assert "loss_falls" in rising.asked(loss={}).failed()
    assert "loss_falls" not in rising.asked(loss={"falls": False}).failed()
    short = commanding.recording(*_losses(1.0, 1.2))
    assert "loss_falls" in short.asked(loss={"falls": True}).failed()


def test_a_gradient_that_overflows_for_a_while_is_honest(commanding: Run) -> None:
    """A loss scaler logs nan, skips the step and goes on."""
    first = LoggedStep(1, 5.0, math.nan, 0.1)
    assert commanding.asked(loss={}).recording(first, *_losses(4.9, 4.0, 3.0)[1:]).failed() == set()


def test_more_ranks_are_no_fewer(commanding: Run) -> None:
    """A trainer that uses more than it was given is slower, and not wrong."""
    assert commanding.edited(Launched, processes=4).failed() == set()
    assert "ranks_started" not in commanding.without(Launched).verdicts()


def test_files_beside_the_log_are_found(commanding: Run) -> None:
    """The folder of a training run may lie below the output folder."""
    files = ("logs/trainer_logs.json", "checkpoint-4/model.safetensors")
    made = commanding.leaving(files=files)
    assert made.asked(expected_files=["trainer_logs.json"]).failed() == set()
    assert made.asked(expected_files=["checkpoint-*/model.safetensors"]).failed() == set()
    unsaved = made.asked(expected_files=["model.safetensors"])
    assert unsaved.failed() == {"expected_files"}
    off = unsaved.recording(Command(("t",), "p", 1, {"save_strategy": "no"}))
    message = off.verdicts()["expected_files"].message
    assert "save_strategy is no, so nothing is saved" in message
