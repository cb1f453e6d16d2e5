"""Several cells at once over one fork server: what befalls one leaves the others alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tunematrix.evidence import Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.executor import Executor

MakeCell = Callable[..., RunDir]
Survivors = Callable[[RunDir, float], list[int]]
LIMIT = 8
"""Seconds for what hangs: several times what a cell takes that doesn't."""


def wait_until_it_runs(cell: RunDir) -> None:
    """Wait for a cell that notes its process to have done so."""
    deadline = time.monotonic() + 60
    while not (cell.output / "pids").exists():
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.02)


def test_they_run_at_the_same_time(executor: Executor, make_cell: MakeCell) -> None:
    """Three that hang until their limit take no longer than one, and each gets its own end."""
    started = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        hanging = [threads.submit(executor.run, make_cell("sleep"), LIMIT) for _ in range(3)]
        good = threads.submit(executor.run, make_cell("succeed"), 60)
        assert good.result().code == 0
        assert not any(one.done() for one in hanging)
        assert [one.result().timed_out for one in hanging] == [True] * 3
    assert time.monotonic() - started < 2.5 * LIMIT


def test_a_killed_guard_leaves_the_others_alone(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """What is left of its cell is ended; the cell beside it goes on."""
    beside, hit = make_cell("sleep"), make_cell("kill_guard")
    with ThreadPoolExecutor(2) as threads:
        other: Future[Exit] = threads.submit(executor.run, beside, 8)
        wait_until_it_runs(beside)
        end = executor.run(hit, timeout=30)
        assert end.problem is not None and "was killed" in end.problem
        assert survivors(hit, 0) == []
        assert len(survivors(beside, 0)) == 1
        assert (other.result().timed_out, other.result().problem) == (True, None)
