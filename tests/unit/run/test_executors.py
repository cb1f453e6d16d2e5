"""Cells in processes of their own: every way to end, and what is left afterwards: nothing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tunematrix.errors import Obstacle
from tunematrix.evidence import Evidence, collect
from tunematrix.evidence.events import (
    BrokenFault,
    Determinants,
    Finished,
    Phase,
    Raised,
    Refused,
    Started,
)
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.executor import Executor
from tunematrix.run.local.process_tree import is_alive

MakeCell = Callable[..., RunDir]
Survivors = Callable[[RunDir, float], list[int]]


@pytest.fixture(autouse=True)
def next_cell_runs(executor: Executor, make_cell: MakeCell) -> Iterator[None]:
    """Whatever a cell did, no zombie of it is left, and the next one succeeds."""
    # Orphans of what other tests have run come to this process, since it is their subreaper now.
    older = set(psutil.Process().children(recursive=True))
    yield
    assert executor.run(make_cell("succeed"), timeout=30).code == 0
    children = set(psutil.Process().children(recursive=True)) - older
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


def _run(executor: Executor, run_dir: RunDir, timeout: float = 30) -> Evidence:
    return collect(run_dir, executor.run(run_dir, timeout))


def test_a_cell_leaves_all_its_evidence(executor: Executor, make_cell: MakeCell) -> None:
    """Events, both streams down to the descriptors, and files are where collect() looks."""
    evidence = _run(executor, make_cell("succeed"))

    assert (evidence.exit.code, evidence.exit.signal, evidence.exit.problem) == (0, None, None)
    assert (evidence.exit.timed_out, evidence.exit.leftovers) == (False, ())
    assert 0 < evidence.exit.seconds < 30
    assert [type(event) for event in evidence.events] == [Started, Phase, Determinants, Finished]
    assert "hello from the cell \\udcff\n" in evidence.stdout
    assert "straight to the descriptor\n" in evidence.stdout
    assert evidence.stderr == "a warning from the cell\n"
    assert evidence.files == ("deep/result.txt",)


def test_a_cell_stands_alone_in_its_process(executor: Executor, make_cell: MakeCell) -> None:
    """It leads its session, finds the imports done, and nothing of how it was started."""
    evidence = _run(executor, make_cell("succeed"))

    started, notice = evidence.one(Started), evidence.one(Determinants)
    assert started is not None and notice is not None
    assert started.pid != os.getpid()
    assert notice.values["session"] == started.pid
    assert notice.values["preloaded"]
    assert notice.values["start_method"] is None
    assert started.determinants["PYTHONHASHSEED"] == os.environ.get("PYTHONHASHSEED", "0")
    assert notice.values["variables"] == []


def test_cells_share_a_hash_seed(executor: Executor, make_cell: MakeCell) -> None:
    """The order of sets of strings is not what makes two cells differ."""
    notices = [_run(executor, make_cell("succeed")).one(Determinants) for _ in range(2)]
    hashes = {notice.values["hash"] for notice in notices if notice is not None}
    assert len(hashes) == 1


def test_versions_are_those_of_the_environment(executor: Executor, make_cell: MakeCell) -> None:
    """Each library that computes is named with its version, and those missing are left out."""
    started = _run(executor, make_cell("succeed")).one(Started)
    assert started is not None
    installed = {
        re.sub("[-_.]+", "-", item.name).lower(): item.version
        for item in importlib.metadata.distributions()
    }
    expected = {"tunematrix", "torch", "transformers", "peft", "trl", "numpy"} & installed.keys()
    assert {name: started.versions[name] for name in expected} == {
        name: installed[name] for name in expected
    }
    assert started.versions.keys() <= installed.keys()


def test_a_recipe_that_raises_is_named_with_its_phase(
    executor: Executor, make_cell: MakeCell
) -> None:
    """Raised holds class names down to the base, and the phase it happened in."""
    evidence = _run(executor, make_cell("raise_in_phase"))

    assert evidence.exit.code == 1
    raised = evidence.one(Raised)
    assert raised is not None
    assert raised.phase == "train"
    assert raised.exception[:3] == ("ConnectionResetError", "ConnectionError", "OSError")
    assert raised.message == "no more tokens"
    assert evidence.one(Finished) is None
    assert evidence.stderr.endswith("ConnectionResetError: no more tokens\n")


def test_advice_is_left_to_the_log(executor: Executor, make_cell: MakeCell) -> None:
    """A reason is short, and carries no terminal codes; the log has it all."""
    evidence = _run(executor, make_cell("raise_advice"))
    raised = evidence.one(Raised)
    assert raised is not None
    assert raised.message == "no such key\ntry 0\ntry 1\n(10 more lines in stderr.log)"
    assert "try 11" in evidence.stderr


def test_running_out_of_memory_is_an_exception(executor: Executor, make_cell: MakeCell) -> None:
    """MemoryError arrives like any other."""
    evidence = _run(executor, make_cell("run_out_of_memory"))
    raised = evidence.one(Raised)
    assert evidence.exit.code == 1
    assert raised is not None and raised.exception[0] == "MemoryError"


def test_a_crash_in_native_code_is_told_by_signal_and_traceback(
    executor: Executor, make_cell: MakeCell
) -> None:
    """What was printed before survives, and faulthandler names the line."""
    evidence = _run(executor, make_cell("segfault"))
    assert (evidence.exit.code, evidence.exit.signal) == (None, "SIGSEGV")
    assert evidence.stdout == "last words\n"
    assert "Segmentation fault" in evidence.stderr
    assert "in segfault" in evidence.stderr


@pytest.mark.parametrize(
    ("recipe", "code", "signal_name"),
    [("exit_at_once", 3, None), ("kill_itself", None, "SIGKILL")],
)
def test_a_sudden_end_is_told(
    executor: Executor, make_cell: MakeCell, recipe: str, code: int | None, signal_name: str | None
) -> None:
    """An exit without cleaning up, and a kill -9, keep code and signal apart."""
    end = executor.run(make_cell(recipe), timeout=30)
    assert (end.code, end.signal, end.timed_out, end.problem) == (code, signal_name, False, None)


def test_a_hanging_cell_is_ended_and_shows_where_each_thread_hangs(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """At the limit all threads are dumped into stderr.log, and the cell is gone."""
    run_dir = make_cell("sleep")
    seen: list[float] = []
    end = executor.run(run_dir, timeout=1, poll=seen.append)
    evidence = collect(run_dir, end)

    assert end.timed_out
    assert 1 <= end.seconds < 60
    assert seen == sorted(seen) and len(seen) >= 2
    assert "in sleep" in evidence.stderr
    assert "in _wait_in_another_thread" in evidence.stderr
    assert survivors(run_dir, 0) == []


def test_a_cell_stuck_in_native_code_is_ended_with_its_daemons(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """Neither an interpreter lock held for good, nor sessions of their own, nor a deaf ear help."""
    run_dir = make_cell("hang_in_native_code")
    evidence = _run(executor, run_dir, timeout=1)
    assert evidence.exit.timed_out
    assert "in hang_in_native_code" in evidence.stderr
    assert survivors(run_dir, 0) == []


def test_daemons_left_behind_are_named_and_ended(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """A cell that ends well can't hide processes in other sessions, nor by forking twice."""
    run_dir = make_cell("leave_daemons")
    end = executor.run(run_dir, timeout=30)
    assert end.code == 0
    assert len(end.leftovers) == 2
    assert any("sleep 600" in command for command in end.leftovers)
    assert survivors(run_dir, 0) == []


def test_a_forked_child_left_behind_is_told_from_the_drivers_children(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """It keeps every inherited file open, and yet the end of the cell is noticed at once.

    Processes of the driver, older ones or started meanwhile, are none of the cell's.
    """
    own = [psutil.Popen(["sleep", "600"])]

    def start_another(seconds: float) -> None:
        if len(own) == 1:
            own.append(psutil.Popen(["sleep", "600"]))

    run_dir = make_cell("leave_a_forked_child")
    end = executor.run(run_dir, timeout=60, poll=start_another)
    alive = [is_alive(process) for process in own]
    for process in own:
        process.kill()
        process.wait()

    assert (end.code, end.timed_out) == (0, False)
    assert len(end.leftovers) == 1 and "forked by the cell" in end.leftovers[0]
    assert survivors(run_dir, 0) == []
    assert alive == [True, True]


def test_helpers_may_take_a_moment_to_end(executor: Executor, make_cell: MakeCell) -> None:
    """A process that ends by itself right after the cell is no leftover."""
    assert executor.run(make_cell("leave_a_short_lived_child"), timeout=30).leftovers == ()


def test_recipes_may_start_processes_themselves(executor: Executor, make_cell: MakeCell) -> None:
    """Each start method works inside a cell, and leaves nothing."""
    end = executor.run(make_cell("use_processes"), timeout=30)
    assert (end.code, end.leftovers) == (0, ())


def test_a_killed_fork_server_is_told_and_replaced(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """The cell that it hit says so and is gone; the modules are imported again for the next."""
    run_dir = make_cell("kill_fork_server")
    end = executor.run(run_dir, timeout=30)
    assert end.code is None
    assert end.problem is not None and "the fork server was killed" in end.problem
    assert survivors(run_dir, 0) == []

    notice = _run(executor, make_cell("succeed")).one(Determinants)
    assert notice is not None and notice.values["preloaded"]


def test_a_killed_guard_takes_its_cell_along(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """Worker and daemons don't outlive the process that looks after them."""
    run_dir = make_cell("kill_guard")
    end = executor.run(run_dir, timeout=30)
    assert end.problem is not None and "was killed" in end.problem
    assert survivors(run_dir, 0) == []


def test_an_error_while_waiting_ends_the_cell(
    executor: Executor, make_cell: MakeCell, survivors: Survivors
) -> None:
    """Whatever interrupts the driver leaves nothing running behind it."""
    run_dir = make_cell("sleep")

    def interrupt(seconds: float) -> None:
        if (run_dir.output / "pids").exists():
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        executor.run(run_dir, timeout=60, poll=interrupt)
    assert survivors(run_dir, 0) == []
    assert time.monotonic() - started < 50


def test_faults_are_entered_around_the_recipe(executor: Executor, make_cell: MakeCell) -> None:
    """A fault gets the config, and holds while the recipe runs."""
    evidence = _run(executor, make_cell("read_context", faults=["recipes_for_run:plant"]))
    notice = evidence.one(Determinants)
    assert notice is not None
    assert notice.values == {"learning_rate": 3e-4, "planted": "0.0003"}


@pytest.mark.parametrize(("faults", "shared"), [([], True), (["recipes_for_run:plant"], False)])
def test_a_cell_under_a_fault_shares_no_reference(
    executor: Executor, make_cell: MakeCell, faults: list[str], shared: bool
) -> None:
    """What a fault has reached must never be what an honest cell is held against."""
    run_dir = make_cell("name_references", faults=faults)
    cell = run_dir.read_cell()
    config = cell.config.model_copy(update={"references": "../references"})
    run_dir.write_cell(replace(cell, config=config))
    notice = _run(executor, run_dir).one(Determinants)
    assert notice is not None
    place = str((run_dir.path.parent / "references").resolve())
    assert notice.values == {"references": place if shared else ""}


def test_a_preparation_runs_in_a_process_of_its_own(executor: Executor, tmp_path: Path) -> None:
    """call() passes keyword arguments on, logs both streams, and tells how it ended."""
    name, made = "recipes_for_run:prepare", tmp_path / "made"
    well, badly = (RunDir.create(tmp_path, name) for name in ("well", "badly"))
    evidence = collect(well, executor.call(name, {"path": str(made)}, 30, well))
    assert (evidence.exit.code, evidence.one(Finished)) == (0, Finished())
    assert (made.read_text(), evidence.stdout) == ("ready", "preparing\n")

    evidence = collect(badly, executor.call(name, {"path": str(tmp_path)}, 30, badly))
    raised = evidence.one(Raised)
    assert evidence.exit.code == 1
    assert raised is not None and raised.exception[0] == "IsADirectoryError"
    assert "IsADirectoryError" in evidence.stderr


def test_a_preparation_finds_the_cache_from_its_folder(executor: Executor, tmp_path: Path) -> None:
    """Wherever the folder lies: what it is given is relative to it."""
    run_dir = RunDir.create(tmp_path, "moved")
    end = executor.call("recipes_for_run:fill", {"cache_dir": "../cache"}, 30, run_dir)
    assert end.code == 0
    assert (tmp_path / "cache" / "filled").is_file()


def test_a_refusal_comes_back_as_data(executor: Executor, tmp_path: Path) -> None:
    """What was looked for, found and to be done crosses the border of the process whole."""
    run_dir = RunDir.create(tmp_path, "refused")
    evidence = collect(run_dir, executor.call("recipes_for_run:refuse", {}, 30, run_dir))
    refused = evidence.one(Refused)
    assert refused == Refused(Obstacle("a device", "Unusable: none\nto do: ", "buy one", True))
    assert evidence.one(Raised) is not None


def test_a_broken_fault_comes_back_as_data(executor: Executor, make_cell: MakeCell) -> None:
    """Whoever counts what was noticed has to know that nothing was tried."""
    fault = "recipes_for_run:break_down"
    evidence = _run(executor, make_cell("succeed", faults=[fault]))
    assert evidence.one(BrokenFault) == BrokenFault(fault, "on its way in")
    assert evidence.exit.code == 1
    assert _run(executor, make_cell("raise_in_phase")).one(BrokenFault) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fork_server_lost_between_cells_is_started_again(
    executor: Executor,
    make_cell: MakeCell,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """Killed or stopped: the next cell waits for the imports, and the user reads why."""
    os.kill(_fork_server_of(executor, make_cell), number)
    time.sleep(0.1)
    evidence = _run(executor, make_cell("succeed"))
    notice = evidence.one(Determinants)
    assert notice is not None and notice.values["preloaded"]
    assert "the fork server had ended" in capsys.readouterr().out


def _fork_server_of(executor: Executor, make_cell: MakeCell) -> int:
    assert executor.run(make_cell("succeed"), timeout=30).code == 0
    (server,) = (
        child.pid
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and any("multiprocessing.forkserver" in word for word in child.cmdline())
    )
    return int(server)
