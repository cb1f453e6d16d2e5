"""An executor that is told to stop, by another thread than those that run cells."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.executor import Executor

MakeCell = Callable[..., RunDir]
Survivors = Callable[[RunDir, float], list[int]]


def test_interrupting_ends_all(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """Each thread gets a KeyboardInterrupt once its cell is gone."""
    cells = [make_cell("sleep") for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(executor.run, cell, 60) for cell in cells]
        deadline = time.monotonic() + 60
        while not all((cell.output / "pids").exists() for cell in cells):
            assert time.monotonic() < deadline, "they never began"
            time.sleep(0.02)
        executor.interrupt()
        for end, cell in zip(ends, cells, strict=True):
            with pytest.raises(KeyboardInterrupt):
                end.result()
            assert survivors(cell, 0) == []
