"""How many processes train together is read from real ones, launchers among them told apart."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tunematrix.command.worlds import Worlds

TWO = "RANK={} WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=1"
ONE = "RANK=0 WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT={}"
SLEEP = "sleep 60 & "


def ranks(inner: str = "sleep 60") -> str:
    """Two processes of one world, each of which runs something in a shell of its own."""
    return "".join(f"env {TWO.format(rank)} sh -c '{inner}; true' & " for rank in (0, 1))


def alone(port: int) -> str:
    """A process that is all of its world."""
    return f"env {ONE.format(port)} sleep 60"


TREES = {
    "no world": (SLEEP, None),
    "one that is distributed": (f"{alone(7)} & ", 1),
    "two": (ranks(), 2),
    "two with helpers": (ranks("sleep 60 & sleep 60"), 2),
    "one of two, seen in time": (f"env {TWO.format(1)} sleep 60 & ", 2),
    "two that each start one alone": (ranks(alone(8)), 1),
    "two that each start one through a shell": (ranks(f'sh -c "{alone(9)}; true"'), 1),
    "two, of which one starts a server": (f"{ranks()}env {TWO.format(0)} sh -c '{alone(5)}' & ", 2),
    "a world that is no number": ("env RANK=0 WORLD_SIZE=many sleep 60 & ", None),
}


@contextmanager
def running(script: str) -> Iterator[set[psutil.Process]]:
    """The processes that a shell has started, each of them become what it is to be."""
    with subprocess.Popen(["sh", "-c", f"{script}wait"], start_new_session=True) as shell:
        try:
            deadline, names = time.monotonic() + 20, list[str]()
            while True:
                assert time.monotonic() < deadline, names
                found = set(psutil.Process(shell.pid).children(recursive=True))
                names = [process.name() for process in found]
                are_there = names.count("sleep") == script.count("sleep 60") and "env" not in names
                if are_there and all(process.environ() for process in found):
                    break
                time.sleep(0.01)
            yield found
        finally:
            for process in (*found, psutil.Process(shell.pid)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.mark.parametrize("name", TREES)
def test_the_innermost_world_counts(name: str) -> None:
    """And a world whose processes all start others is none that trains."""
    script, size = TREES[name]
    worlds = Worlds()
    with running(script) as processes:
        worlds.read(processes)
        worlds.read(processes)
    worlds.read(processes)
    assert worlds.size == size


def test_a_process_that_is_gone_is_remembered() -> None:
    """The launcher above it as well."""
    worlds = Worlds()
    with running(ranks(alone(8))) as processes:
        worlds.read(processes)
    assert (worlds.size, Worlds().size) == (1, None)
