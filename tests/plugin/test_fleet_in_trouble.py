"""Workers that hang, vanish, have a full disk or a wrong clock: all cells are on record, once."""

from __future__ import annotations

import json
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.plugin.fleets import Fleet, Member, fleet_of

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Run

IMPATIENT = """
from tunematrix.fleet import settings
settings.SILENCE, settings.WITHOUT = 5, 3
"""
"""Seconds that are a minute, and two, for those who aren't testing."""
CLOCK = """
import time
_true = time.time
time.time = lambda: _true() + {seconds}
"""
CELLS = 16


@pytest.fixture(scope="module")
def fleet(new_project: NewProject) -> Iterator[Fleet]:
    """A scheduler that waits for nobody for long; each test has workers of its own."""
    project = new_project()
    target = "{_target_: tiny_recipes.nap, _partial_: true}"
    project.option("recipe", "nap", f"implementation: {target}\n")
    project.spec("good", "succeed")
    project.spec("nap", "nap")
    with fleet_of(project, IMPATIENT) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def _without_workers(fleet: Fleet) -> Iterator[None]:
    yield
    for member in fleet.members[1:]:
        if member.process.poll() is None:
            member.process.send_signal(signal.SIGCONT)
            member.end(signal.SIGTERM)
    del fleet.members[1:]


def store(fleet: Fleet) -> Path:
    """Where the records go."""
    return fleet.project.root / ".tunematrix/plain/results.jsonl"


def records(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The record of each cell; none has two."""
    each = [json.loads(line) for line in store(fleet).read_text(encoding="utf-8").splitlines()]
    assert set(Counter(one["cell_id"] for one in each).values()) <= {1}
    return {one["cell_id"]: one for one in each}


def run(fleet: Fleet, spec: str, *more: str) -> Run:
    """Run a spec over the fleet, with a store of its own."""
    store(fleet).unlink(missing_ok=True)
    return fleet.project.pytest("--environment=plain", *fleet.options, f"specs/{spec}.yaml", *more)


@contextmanager
def naps(fleet: Fleet) -> Iterator[dict[str, Any]]:
    """A run of some naps, from its first record to its end, which `code` and `text` are of."""
    store(fleet).unlink(missing_ok=True)
    command = ("-m", "tunematrix", "run", "-e", "plain", *fleet.options)
    ended: dict[str, Any] = {}
    own = [*command, "specs/nap.yaml", f"--seeds={CELLS}"]
    with fleet.project.started([python(), *own]) as process:
        fleet.project.wait_for(lambda: store(fleet).exists() and store(fleet).read_text())
        yield ended
        out, err = process.communicate(timeout=200)
    ended |= {"code": process.returncode, "text": out + err}


@pytest.mark.nightly
def test_a_worker_that_hangs(fleet: Fleet) -> None:
    """Its cells run on another one; once it answers again, it gets cells like any other."""
    hangs = fleet.worker("plain", "-n1", "--name=hangs")
    fleet.worker("plain", "-n1", "--name=works")
    with naps(fleet) as ended:
        hangs.process.send_signal(signal.SIGSTOP)
    assert ended["code"] == 0, ended["text"]
    found = records(fleet)
    assert {one["outcome"] for one in found.values()} == {"passed"} and len(found) == CELLS
    by_worker = Counter(one["machine"]["worker"] for one in found.values())
    assert by_worker["works"] > by_worker["hangs"], by_worker
    hangs.process.send_signal(signal.SIGCONT)
    fleet.project.wait_for(lambda: hangs.said.count("at work for") == 2)
    again = run(fleet, "nap", "--seeds=6")
    assert again.code == 0, again.text
    assert {one["machine"]["worker"] for one in records(fleet).values()} == {"hangs", "works"}


def test_the_last_worker_leaves(fleet: Fleet) -> None:
    """Its cells wait for another one for some time, and end as errors that say so."""
    leaves = fleet.worker("plain", "-n1", "--name=leaves")
    with naps(fleet) as ended:
        leaves.end(signal.SIGKILL)
    assert ended["code"] == 1, ended["text"]
    found = records(fleet)
    assert len(found) == CELLS
    outcomes = Counter(one["outcome"] for one in found.values())
    assert outcomes["passed"] and outcomes["error"] and set(outcomes) == {"passed", "error"}
    reasons = {one["reason"] for one in found.values() if one["outcome"] == "error"}
    assert all("no worker was left for it, and none came" in one for one in reasons), reasons


@pytest.mark.nightly
def test_another_worker_comes_in_time(fleet: Fleet) -> None:
    """What waits for one is run by it."""
    leaves = fleet.worker("plain", "-n1", "--name=leaves")
    follows = fleet.worker("plain", "-n1", "--name=follows")
    follows.process.send_signal(signal.SIGSTOP)
    with naps(fleet) as ended:
        leaves.end(signal.SIGKILL)
        follows.process.send_signal(signal.SIGCONT)
    assert ended["code"] == 0, ended["text"]
    assert len(records(fleet)) == CELLS


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="needs limits of others: Linux")
def test_a_full_disk(fleet: Fleet) -> None:
    """Cells end as errors that name the folder; with room again, the same worker runs them."""
    full = fleet.worker("plain", "-n1", "--name=full")
    limit(full, 0)
    ended = run(fleet, "good")
    assert ended.code == 1, ended.text
    (record,) = records(fleet).values()
    assert record["outcome"] == "error"
    assert "File too large" in record["reason"] and "workers/full" in record["reason"]
    limit(full, resource.RLIM_INFINITY)
    ended = run(fleet, "good")
    assert ended.code == 0, ended.text


@pytest.mark.nightly
@pytest.mark.parametrize("hours", [-9, 9])
def test_a_clock_that_is_off(fleet: Fleet, hours: int) -> None:
    """By hours: cells run, and take as long as they take."""
    prelude = CLOCK.format(seconds=3600 * hours)
    own = ("worker", fleet.address, "-e", "plain", "-n1")
    fleet.start(*own, awaited="at work for", prelude=prelude)
    ended = run(fleet, "nap", "--seeds=3")
    assert ended.code == 0, ended.text
    found = records(fleet)
    assert len(found) == 3
    assert all(0.2 < one["durations"]["total"] < 60 for one in found.values())


def limit(member: Member, size: int) -> None:
    """Let no file of a worker grow beyond a size, nor one of whatever it has started."""
    worker = psutil.Process(member.process.pid)
    for process in (worker, *worker.children(recursive=True)):
        process.rlimit(psutil.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def python() -> str:
    """This Python."""
    import sys

    return sys.executable
