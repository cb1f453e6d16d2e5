"""Real drivers, real processes: cells of the tiny recipes beside this file."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from tests.tiny import tiny_configuration

from tunematrix.evidence import Evidence, collect
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.run.executor import Executor
from tunematrix.run.local.executors import open_executor
from tunematrix.run.local.process_tree import is_alive

MakeCell = Callable[..., RunDir]
Survivors = Callable[[RunDir, float], list[int]]


@pytest.fixture(autouse=True)
def importable_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get the driver's sys.path, and find `recipes_for_run` there."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One fork server for all tests of a module."""
    with pytest.MonkeyPatch.context() as environment:
        # It would hide that the last lines before a crash are lost.
        environment.delenv("PYTHONUNBUFFERED", raising=False)
        executor = open_executor("auto", ["email.mime.text", "hydra.utils"], say=print)
    with closing(executor):
        yield executor


@pytest.fixture
def make_cell(tmp_path: Path) -> MakeCell:
    """Makes the run directory of a cell that runs one of the tiny recipes."""

    runs = itertools.count()

    def make(recipe: str, faults: Sequence[str] = ()) -> RunDir:
        run_dir = RunDir.create(tmp_path / f"run-{next(runs)}", f"{recipe}[cpu]")
        config = tiny_configuration(f"recipes_for_run.{recipe}", learning_rate=3e-4)
        run_dir.write_cell(CellFile(recipe, config, tuple(faults)))
        return run_dir

    return make


@pytest.fixture
def survivors() -> Survivors:
    """Tells which of the processes that a tiny recipe recorded still run after some seconds."""

    def survivors_of(run_dir: RunDir, seconds: float) -> list[int]:
        pids = [int(pid) for pid in (run_dir.output / "pids").read_text().split()]
        deadline = time.monotonic() + seconds
        while (running := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return running

    return survivors_of


@pytest.fixture
def next_cell_runs(executor: Executor, make_cell: MakeCell) -> Iterator[None]:
    """Whatever a cell did, no zombie of it is left, and the next one succeeds."""
    # Orphans of what other tests have run come to this process, since it is their subreaper now.
    older = set(psutil.Process().children(recursive=True))
    yield
    assert executor.run(make_cell("succeed"), timeout=30).code == 0
    children = set(psutil.Process().children(recursive=True)) - older
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


def evidence_of(executor: Executor, run_dir: RunDir, timeout: float = 30) -> Evidence:
    """Run a cell, and collect what it leaves."""
    return collect(run_dir, executor.run(run_dir, timeout))


def _runs(pid: int) -> bool:
    try:
        return is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
