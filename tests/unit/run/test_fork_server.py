"""How cells are isolated: decided by imports and canary, told with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tunematrix.errors import MachineProblem
from tunematrix.evidence import collect
from tunematrix.evidence.events import Determinants
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.local.executors import open_executor
from tunematrix.run.local.fork_server import PreloadFailed, ServerProcess
from tunematrix.run.local.process_tree import is_alive

MakeCell = Callable[..., RunDir]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module that the fork server can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def make(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """A closed driver leaves no process but multiprocessing's own bookkeeper."""
    before = _running()
    yield
    left = _running() - before
    assert [child for child in left if "resource_tracker" not in str(child.cmdline())] == []


def _running() -> set[psutil.Process]:
    return {child for child in psutil.Process().children(recursive=True) if is_alive(child)}


def test_a_canary_that_lives_keeps_forking(make_cell: MakeCell) -> None:
    """Cells find the preloaded modules, and the driver says how long they took."""
    lines: list[str] = []
    canary = "recipes_for_run:canary_that_lives"
    with closing(
        open_executor("auto", ["email.mime.text"], canaries=[canary], say=lines.append)
    ) as executor:
        run_dir = make_cell("succeed")
        end = executor.run(run_dir, timeout=30)
        described = executor.describe()

    notice = collect(run_dir, end).one(Determinants)
    assert end.isolation == described["isolation"] == "forkserver"
    assert notice is not None and notice.values["preloaded"]
    assert isinstance(described["modules"], dict) and "email.mime.text" in described["modules"]
    assert len(lines) == 1 and lines[0].startswith("imported the libraries once, for all cells: ")


def test_a_canary_that_dies_means_fresh_processes(make_cell: MakeCell) -> None:
    """Cells still run, each in a Python of its own, and the reason quotes the canary."""
    lines: list[str] = []
    canary = "recipes_for_run:canary_that_dies"
    with closing(
        open_executor("auto", ["email.mime.text"], canaries=[canary], say=lines.append)
    ) as executor:
        run_dir = make_cell("succeed")
        end = executor.run(run_dir, timeout=30)
        described = executor.describe()

    notice = collect(run_dir, end).one(Determinants)
    assert (end.code, end.isolation) == (0, "spawn")
    assert notice is not None and not notice.values["preloaded"]
    assert described["isolation"] == "spawn"
    assert "RuntimeError: parallel work after a fork" in str(described["reason"])
    assert lines[-1].startswith("cells can't be forked (the trial process ")
    assert "parallel work after a fork" in lines[-1]


def test_fresh_processes_end_alike(make_cell: MakeCell) -> None:
    """Code, signal and traceback of a spawned cell are those of a forked one."""
    with closing(open_executor("spawn", [], say=print)) as executor:
        crashing = make_cell("segfault")
        crashed = executor.run(crashing, timeout=30)
        raised = executor.run(make_cell("raise_in_phase"), timeout=30)
    assert (crashed.signal, crashed.isolation) == ("SIGSEGV", "spawn")
    assert "in segfault" in collect(crashing, crashed).stderr
    assert (raised.code, raised.signal) == (1, None)


def test_a_demanded_fork_server_that_cannot_be_is_an_error() -> None:
    """Nobody gets another isolation than the one demanded."""
    canary = "recipes_for_run:canary_that_dies"
    with pytest.raises(MachineProblem, match="parallel work after a fork"):
        open_executor("forkserver", [], [canary], say=print)


def test_failing_imports_are_told_and_do_no_harm(
    make_cell: MakeCell, make_module: Callable[[str, str], str]
) -> None:
    """Whatever an import raises, the other modules are there, and cells run."""
    lines: list[str] = []
    modules = [
        "no_such_module",
        make_module("raises", "raise ValueError('half installed')"),
        make_module("exits", "import sys; sys.exit(1)"),
        "email.mime.text",
    ]
    with closing(open_executor("auto", modules, say=lines.append)) as executor:
        run_dir = make_cell("succeed")
        end = executor.run(run_dir, timeout=30)
        failed = executor.describe()["failed"]

    notice = collect(run_dir, end).one(Determinants)
    assert (end.code, end.isolation) == (0, "forkserver")
    assert notice is not None and notice.values["preloaded"]
    assert failed == {
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
        "raises": "ValueError: half installed",
        "exits": "SystemExit: 1",
    }
    assert "could not import raises: ValueError: half installed" in lines


def test_an_import_that_crashes_is_named(
    make_cell: MakeCell, make_module: Callable[[str, str], str]
) -> None:
    """A fork server that dies of an import gives way to fresh processes."""
    crashing = make_module("crashes", "import os; os.abort()")
    with closing(open_executor("auto", ["json", crashing], say=print)) as executor:
        end = executor.run(make_cell("succeed"), timeout=30)
        reason = executor.describe()["reason"]
    assert (end.code, end.isolation) == (0, "spawn")
    assert reason == "importing crashes ended the fork server"


def test_an_import_that_hangs_is_ended(
    tmp_path: Path, make_module: Callable[[str, str], str]
) -> None:
    """The limit holds for all imports together, and names the one that was under way."""
    server = ServerProcess(
        [make_module("hangs", "import time; time.sleep(600)")], tmp_path, limit=2
    )
    with pytest.raises(PreloadFailed, match=r"importing hangs hung \(2 s\)"):
        server.ensure()
