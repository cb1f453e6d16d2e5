"""The body of a cell, where a person runs it: in the foreground, or as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tunematrix.evidence import collect
from tunematrix.evidence.events import Finished, Raised, Started
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.foreground import Foreground

MakeCell = Callable[..., RunDir]


def _python(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        check=False,
    )


def test_the_foreground_shows_everything(
    make_cell: MakeCell, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is redirected, and the events are written all the same."""
    run_dir = make_cell("read_context", faults=["recipes_for_run:plant"])
    end = Foreground().run(run_dir, 0)
    assert (end.code, end.isolation, end.timed_out) == (0, "foreground", False)
    assert collect(run_dir, end).one(Finished) is not None

    end = Foreground().run(make_cell("raise_in_phase"), 0)
    assert end.code == 1
    assert "ConnectionResetError: no more tokens" in capfd.readouterr().err


def test_breakpoints_work_in_the_foreground(make_cell: MakeCell) -> None:
    """A debugger gets the terminal, and may change what the recipe sees."""
    run_dir = make_cell("stop_at_a_breakpoint")
    code = (
        "import pathlib\n"
        "from tunematrix.evidence.run_dir import RunDir\n"
        "from tunematrix.run.foreground import Foreground\n"
        f"print(Foreground().run(RunDir(pathlib.Path({str(run_dir.path)!r})), 0))\n"
    )
    done = _python("-c", code, typed="answer = '42'\ncontinue\n")
    assert "(Pdb)" in done.stdout
    assert "the answer was 42" in done.stdout


@pytest.mark.parametrize(
    ("recipe", "code", "last"), [("read_context", 0, Finished), ("raise_in_phase", 1, Raised)]
)
def test_a_cell_runs_as_a_command(
    make_cell: MakeCell, recipe: str, code: int, last: type[Finished | Raised]
) -> None:
    """`python -m tunematrix.run.worker RUN_DIR` runs the same body, exit code included."""
    run_dir = make_cell(recipe)
    done = _python("-m", "tunematrix.run.worker", str(run_dir.path))
    events = collect(run_dir, Foreground().run(run_dir, 0)).events
    assert done.returncode == code
    # The later run has replaced the events of the earlier one.
    assert [isinstance(event, Started) for event in events].count(True) == 1
    assert isinstance(events[-1], last)
