"""Every way in which a cell's process can end, and what is left of it afterwards: nothing."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from tests.unit.run.conftest import MakeCell, Survivors, evidence_of

from tunematrix.evidence import collect
from tunematrix.evidence.events import Determinants, Finished, Raised
from tunematrix.run.executor import Executor
from tunematrix.run.local.process_tree import is_alive

pytestmark = pytest.mark.usefixtures("next_cell_runs")


def test_a_recipe_that_raises_is_named_with_its_phase(
    executor: Executor, make_cell: MakeCell
) -> None:
    """Raised holds class names down to the base, and the phase it happened in."""
    evidence = evidence_of(executor, make_cell("raise_in_phase"))

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
    evidence = evidence_of(executor, make_cell("raise_advice"))
    raised = evidence.one(Raised)
    assert raised is not None
    assert raised.message == "no such key\ntry 0\ntry 1\n(10 more lines in stderr.log)"
    assert "try 11" in evidence.stderr


def test_running_out_of_memory_is_an_exception(executor: Executor, make_cell: MakeCell) -> None:
    """MemoryError arrives like any other."""
    evidence = evidence_of(executor, make_cell("run_out_of_memory"))
    raised = evidence.one(Raised)
    assert evidence.exit.code == 1
    assert raised is not None and raised.exception[0] == "MemoryError"


def test_a_crash_in_native_code_is_told_by_signal_and_traceback(
    executor: Executor, make_cell: MakeCell
) -> None:
    """What was printed before survives, and faulthandler names the line."""
    evidence = evidence_of(executor, make_cell("segfault"))
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
    evidence = evidence_of(executor, run_dir, timeout=1)
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

    notice = evidence_of(executor, make_cell("succeed")).one(Determinants)
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
    evidence = evidence_of(executor, make_cell("succeed"))
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
