"""Real processes that train together: what they prove, and what is left when one of them ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.stack.conftest import judged

from tunematrix.errors import BadInput
from tunematrix.evidence import collect
from tunematrix.evidence.events import Rank
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run.executor import Executor
from tunematrix.run.local.process_tree import is_alive
from tunematrix.spec.model import Spec

if TYPE_CHECKING:
    from tests.stack.conftest import Carry, Judged

LIMIT = 90

RunCell = Callable[..., "Judged"]


@pytest.fixture
def run_cell(carry_apart: Carry) -> RunCell:
    """Run three steps of a cell with these options and settings, and judge it."""
    groups = read_groups([shipped_configs()])

    def run(launcher: str, method: str = "lora", fault: str = "", **settings: object) -> Judged:
        data = {
            "test_id": "launched",
            "recipe": "sft",
            "timeout": LIMIT,
            "matrix": {"launcher": [launcher], "method": [method], "data": ["unequal"]},
            "overrides": {
                "train.max_steps": 3,
                "train.batch_size": 2,
                "train.max_length": 256,
                "meters.held_out_rows": 8,
                **settings,
            },
        }
        (cell,), _ = expand(Spec.model_validate(data), groups, ["cpu"])
        return judged(carry_apart(cell, fault))

    return run


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("launcher", "method"),
    # The suite has cells of the other pairs.
    [("ddp", "lora"), ("ddp", "custom-lora"), ("fsdp", "custom-lora")],
)
def test_two_processes_train_one_model(launcher: str, method: str, run_cell: RunCell) -> None:
    """All checks hold, over both ranks' evidence; what each printed is there under its name."""
    ran = run_cell(launcher, method)
    assert ran.failed == set()
    assert {"ranks", "first_loss", "clipping", "optimizer_update", "reload"} <= ran.verdicts.keys()
    first, second = ran.evidence.all(Rank)
    assert (first.rank, second.rank, first.collectives) == (0, 1, "gloo")
    assert first.parameters == second.parameters
    assert not set(first.first_rows) & set(second.first_rows)
    assert (first.held == first.whole) == (launcher == "ddp")


def test_more_processes_take_smaller_shares(run_cell: RunCell) -> None:
    """`launcher.processes` decides how many, and the rows that they need are there."""
    ran = run_cell("fsdp", "full", **{"launcher.processes": 4})
    assert ran.failed == set()
    assert {rank.processes for rank in ran.evidence.all(Rank)} == {4}


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("launcher", "fault", "said"),
    [
        ("ddp", "gradients_not_averaged", "rank 1 ended with other parameters than rank 0"),
        ("ddp", "rows_not_shared_out", "ranks 0 and 1 trained on 2 of the same rows"),
        ("fsdp", "nothing_sharded", "which should be spread over them"),
    ],
)
def test_ranks_that_share_nothing(launcher: str, fault: str, said: str, run_cell: RunCell) -> None:
    """The cell ends well, and the check says what its processes didn't share."""
    ran = run_cell(launcher, fault=f"tunematrix.faults.ranks:{fault}")
    assert ran.evidence.exit.code == 0
    assert "ranks" in ran.failed
    assert said in ran.verdicts["ranks"].message


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("killed", "rank 1 of 2 was ended by SIGKILL"),
        ("exits", "rank 1 of 2 ended with exit code 3"),
        ("raises", "FloatingPointError while in train: rank 1 of 2: rank one gives up"),
        ("hangs", "rank 1 of 2 left the others waiting"),
    ],
)
def test_a_rank_that_ends_early(fault: str, said: str, run_cell: RunCell) -> None:
    """The cell ends in time, names that rank and its last lines, and leaves nothing running."""
    before = set(psutil.Process().children(recursive=True))
    ran = run_cell("ddp", fault=f"rank_faults:{fault}", **{"launcher.timeout": 5})
    message = ran.verdicts["exit"].message
    assert said in message
    last = "rank_faults.py" if fault == "hangs" else "these are my last words"
    assert fault == "raises" or last in message
    assert "[rank 1] these are my last words" in ran.evidence.stderr
    assert not ran.evidence.exit.timed_out
    assert ran.evidence.exit.leftovers == ()
    left = set(psutil.Process().children(recursive=True)) - before
    assert not any(map(is_alive, left))


@pytest.fixture
def hanging(tmp_path: Path) -> RunDir:
    """A cell of which both ranks hang, each in itself."""
    groups = read_groups([shipped_configs()])
    data = {"test_id": "hanging", "recipe": "sft", "matrix": {"launcher": ["ddp"]}}
    (cell,), _ = expand(Spec.model_validate(data), groups, ["cpu"])
    config = compose(cell, groups)
    own = {"implementation": {"_target_": "rank_faults.sleep", "_partial_": True}}
    config = config.model_copy(update={"recipe": config.recipe.model_copy(update=own)})
    run_dir = RunDir.create(tmp_path, cell.id)
    run_dir.write_cell(CellFile(cell.id, config))
    return run_dir


def _sleepers(run_dir: RunDir, count: int, seconds: float) -> list[int]:
    """Processes that the recipe has recorded, once there are that many or time is over."""
    deadline = time.monotonic() + seconds
    while len(found := list(run_dir.output.glob("*.pid"))) < count:
        assert time.monotonic() < deadline, run_dir.stderr.read_text()
        time.sleep(0.1)
    return [int(path.stem) for path in found]


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


@pytest.mark.nightly
def test_ranks_that_all_hang(forking: Executor, hanging: RunDir) -> None:
    """At the cell's own limit each says where it was, and none is left."""
    evidence = collect(hanging, forking.run(hanging, timeout=20))
    assert evidence.exit.timed_out
    for rank in (0, 1):
        stack = [line for line in evidence.stderr.splitlines() if line.startswith(f"[rank {rank}]")]
        assert any("rank_faults.py" in line and "in sleep" in line for line in stack)
    assert not any(_runs(pid) for pid in _sleepers(hanging, 2, 0))


@pytest.mark.nightly
def test_ranks_follow_a_killed_driver(hanging: RunDir) -> None:
    """After kill -9 of the driver none of them runs on."""
    code = (
        "import pathlib, sys\n"
        "from tunematrix.evidence.run_dir import RunDir\n"
        "from tunematrix.run.local.executors import open_executor\n"
        "executor = open_executor('auto', ['hydra.utils'], say=print)\n"
        "executor.run(RunDir(pathlib.Path(sys.argv[1])), timeout=600)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", code, str(hanging.path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as process:
        pids = _sleepers(hanging, 2, 120)
        assert all(_runs(pid) for pid in pids)
        process.kill()
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "they run on"
        time.sleep(0.1)


def test_one_process_is_refused_more(run_cell: RunCell) -> None:
    """A launcher that starts one process takes no number of them."""
    for launcher in ("single", "fresh"):
        with pytest.raises(BadInput, match=r"launcher\.processes: has no effect"):
            run_cell(launcher, **{"launcher.processes": 2})
