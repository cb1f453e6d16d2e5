"""Several processes for one cell: whose fault it is when they end early, and what they leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.errors import RanksEnded
from tunematrix.evidence import collect
from tunematrix.evidence.events import Determinants, Event, Finished, Raised, Rank, Started
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run import ranks
from tunematrix.run.executor import Executor

MakeCell = Callable[..., RunDir]

RAISED = Raised("train", ("ValueError", "Exception"), "no such label")
CLOSED = Raised("train", ("RuntimeError",), "[../third_party/gloo/gloo/pair.cc:5] Read error")
ABORTED = Raised("train", ("torch.distributed.DistBackendError",), "unhandled")
RANK = Rank(0, 2, "gloo", 16, ("a", "b"), "digest", 4096, 4096)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """Where two ranks have written nothing yet."""
    for number in (0, 1):
        (tmp_path / f"rank-{number}").mkdir()
    return RunDir(tmp_path)


def _left(run_dir: RunDir, number: int, *events: Event, stderr: str = "") -> None:
    own = run_dir.rank(number)
    own.stderr.write_text(stderr)
    with EventLog(own.events if number else run_dir.events) as log:
        for event in events:
            log.write(event)


@pytest.mark.parametrize("other", [CLOSED, ABORTED])
def test_who_raised_is_blamed(run_dir: RunDir, other: Raised) -> None:
    """Not the one that lost its connection, even if the launcher noticed that one first."""
    _left(run_dir, 0, other)
    _left(run_dir, 1, RAISED, stderr="one\ntwo\n")
    (blamed,) = ranks.blame(run_dir, RanksEnded({0: 1}, 2))
    assert isinstance(blamed, Raised)
    assert blamed.exception == RAISED.exception
    assert blamed.phase == "train"
    assert blamed.message == "rank 1 of 2: no such label\n    one\n    two"


@pytest.mark.parametrize(
    ("code", "said"), [(-9, "was ended by SIGKILL"), (3, "ended with exit code 3")]
)
def test_who_died_is_blamed(run_dir: RunDir, code: int, said: str) -> None:
    """It says nothing itself, so its code and its last lines do."""
    _left(run_dir, 0, CLOSED)
    _left(run_dir, 1, stderr="last words\n")
    (blamed,) = ranks.blame(run_dir, RanksEnded({1: code}, 2))
    assert isinstance(blamed, Raised)
    assert blamed.message.startswith(f"rank 1 of 2 {said}")
    assert blamed.message.endswith("\n    last words")
    assert "RuntimeError" in blamed.exception


def test_who_never_came_is_blamed(run_dir: RunDir) -> None:
    """The other's time ran out; where this one was, its stack says, innermost call first."""
    stack = "Current thread 0x1 (most recent call first):\n" + "".join(
        f'  File "{name}.py", line 1 in {name}\n' for name in "abcdefg"
    )
    _left(run_dir, 0, CLOSED)
    _left(run_dir, 1, stderr=stack)
    (blamed,) = ranks.blame(run_dir, RanksEnded({0: 1}, 2))
    assert isinstance(blamed, Raised)
    assert blamed.message.startswith("rank 1 of 2 left the others waiting")
    assert 'File "a.py", line 1 in a' in blamed.message.split("\n")[1]
    assert "g.py" not in blamed.message


def test_where_all_lost_their_connection(run_dir: RunDir) -> None:
    """Nobody else is to blame, so the one that was noticed is."""
    for number in (0, 1):
        _left(run_dir, number, CLOSED)
    (blamed,) = ranks.blame(run_dir, RanksEnded({1: 1}, 2))
    assert isinstance(blamed, Raised)
    assert blamed.message.startswith("rank 1 of 2: [../third_party")


def test_what_ranks_say_of_themselves_is_collected(run_dir: RunDir) -> None:
    """Of the others' events, the cell's own take these alone."""
    _left(run_dir, 0, RANK, Finished())
    _left(run_dir, 1, Started(1, {}, {}), RANK, Finished())
    ranks.collect(run_dir)
    assert read_events(run_dir.events) == (RANK, Finished(), RANK)


@pytest.fixture
def make_fresh(make_cell: MakeCell) -> Callable[[str], RunDir]:
    """Make a cell of a tiny recipe that runs in a fresh interpreter."""

    def make(recipe: str) -> RunDir:
        run_dir = make_cell(recipe)
        settings = {"processes": 1, "hash_seed": 4711}
        implementation = {"_target_": "tunematrix.run.fresh.launch", "_partial_": True, **settings}
        cell = run_dir.read_cell()
        fresh = {"name": "fresh", "implementation": implementation}
        launcher = cell.config.launcher.model_copy(update=fresh)
        config = cell.config.model_copy(update={"launcher": launcher})
        run_dir.write_cell(replace(cell, config=config))
        return run_dir

    return make


def test_a_fresh_interpreter(executor: Executor, make_fresh: Callable[[str], RunDir]) -> None:
    """It has the seed that was asked for, imports of its own, and leaves all its evidence."""
    run_dir = make_fresh("succeed")
    evidence = collect(run_dir, executor.run(run_dir, timeout=60))
    started, notice = evidence.one(Started), evidence.one(Determinants)
    assert evidence.exit.code == 0 and evidence.exit.leftovers == ()
    assert started is not None and notice is not None
    assert started.determinants["PYTHONHASHSEED"] == "4711" != os.environ.get("PYTHONHASHSEED")
    assert not notice.values["preloaded"]
    assert "hello from the cell" in evidence.stdout
    assert evidence.files == ("deep/result.txt",)


@pytest.mark.parametrize(
    ("recipe", "kind", "said"),
    [
        ("raise_in_phase", "ConnectionResetError", "no more tokens"),
        ("kill_itself", "tunematrix.errors.RanksEnded", "was ended by SIGKILL"),
        ("exit_at_once", "tunematrix.errors.RanksEnded", "ended with exit code 3"),
    ],
)
def test_a_fresh_interpreter_that_ends_early(
    executor: Executor, make_fresh: Callable[[str], RunDir], recipe: str, kind: str, said: str
) -> None:
    """The cell fails as it would without one, and says how it ended."""
    run_dir = make_fresh(recipe)
    evidence = collect(run_dir, executor.run(run_dir, timeout=60))
    raised = evidence.one(Raised)
    assert evidence.exit.code == 1
    assert raised is not None
    assert raised.exception[0] == kind
    assert said in raised.message


@pytest.mark.nightly
def test_a_fresh_interpreter_that_hangs(
    executor: Executor, make_fresh: Callable[[str], RunDir], survivors: Callable[..., list[int]]
) -> None:
    """At the time limit its stack is in the log, and it is gone with its worker."""
    run_dir = make_fresh("sleep")
    evidence = collect(run_dir, executor.run(run_dir, timeout=10))
    assert evidence.exit.timed_out
    assert "recipes_for_run.py" in evidence.stderr
    assert survivors(run_dir, 5) == []
