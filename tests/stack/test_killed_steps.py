"""Training that is killed with SIGKILL at any moment, and goes on in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tunematrix.configuration import Configuration
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.evidence.events import StepTrained
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec

STEPS = 8
WEIGHTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
KILLS = int(os.environ.get("TUNEMATRIX_KILLS", "2"))
"""Random moments for each way to train."""


def settings(way: str, folder: Path) -> Mapping[str, Any]:
    """A step that saves a checkpoint after each of its steps, with dropout where it can."""
    training = {
        "max_steps": STEPS,
        "save_steps": 1,
        "batch_size": 2,
        "learning_rate": 0.001,
        "threads": 1,
        "output_dir": str(folder),
    }
    model = {"path": "toyworld://base"}
    if way == "dpo":
        lora = {"dropout": 0.0}
        dataset = {"path": "toyworld://preferences"}
        return {
            "dpo": {"model": model, "dataset": dataset, "alignment": {**training, "lora": lora}}
        }
    lora = {"dropout": 0.1}
    dataset = {"path": "toyworld://stories"}
    return {
        "sft": {
            "model": model,
            "dataset": dataset,
            "training": {**training, "method": way, "lora": lora},
        }
    }


def configured(way: str, folder: Path, resume: str = "") -> Configuration:
    """The cell of such a step."""
    groups = read_groups([shipped_configs()])
    spec = Spec(test_id="resumed", recipe="pipeline")
    (cell,), _ = expand(spec, groups, ["cpu"])
    steps = PipelineSteps.model_validate({**settings(way, folder), "resume": resume})
    return compose(cell, groups).model_copy(update={"steps": steps})


def body(config: Configuration, events: Path, folder: Path) -> None:
    """What a process of a cell does."""
    from tunematrix.stack.recipes import pipeline

    with EventLog(events) as log:
        pipeline.run(config, log, folder)


def started(config: Configuration, events: Path, folder: Path) -> BaseProcess:
    """Run a step in a process forked from this one, which has imported the libraries."""
    process = multiprocessing.get_context("fork").Process(
        target=body, args=(config, events, folder)
    )
    process.start()
    return process


@pytest.fixture(scope="module", params=["lora", "full", "dpo"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, bytes, float]:
    """A way to train, the weights that it comes to undisturbed, and the seconds it takes."""
    import tunematrix.stack.recipes.pipeline
    import tunematrix.stack.steps.dpo
    import tunematrix.stack.steps.sft  # noqa: F401 - for the processes that are forked from here

    folder = tmp_path_factory.mktemp("uninterrupted")
    began = time.monotonic()
    process = started(configured(request.param, folder), folder / "events.jsonl", folder)
    process.join()
    assert process.exitcode == 0
    return request.param, weights(request.param, folder), time.monotonic() - began


def weights(way: str, folder: Path) -> bytes:
    """What was trained, as it lies on disk."""
    return (folder / WEIGHTS.get(way, WEIGHTS["lora"])).read_bytes()


@pytest.mark.each_time(1)
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(
    uninterrupted: tuple[str, bytes, float], number: int, tmp_path: Path
) -> None:
    """It goes on from the latest whole checkpoint, or begins where there is none: to the bit."""
    way, whole, seconds = uninterrupted
    moment = random.Random(f"{way}/{number}").uniform(0.15, 1.0) * seconds
    process = started(configured(way, tmp_path), tmp_path / "events.jsonl", tmp_path)
    process.join(moment)
    assert process.pid is not None
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    saved = any(tmp_path.glob("checkpoint-*/trainer_state.json"))
    resume = "latest" if saved else ""
    again = started(configured(way, tmp_path, resume), tmp_path / "again.jsonl", tmp_path)
    again.join()
    events = read_events(tmp_path / "again.jsonl")
    assert again.exitcode == 0, events[-1]
    assert weights(way, tmp_path) == whole
    (trained,) = (one for one in events if isinstance(one, StepTrained))
    assert (trained.resumed_at > 0) == saved
