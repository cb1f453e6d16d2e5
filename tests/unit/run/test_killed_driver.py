"""The driver itself is killed or interrupted: nothing keeps running behind its back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tunematrix.evidence.run_dir import RunDir, folder_name
from tunematrix.run.local.process_tree import is_alive

HERE = Path(__file__).parent

Survivors = Callable[[RunDir, float], list[int]]


@contextmanager
def _driving(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process group of its own, as under a terminal."""
    command = [sys.executable, str(HERE / "drive.py"), str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0
    ) as driver:
        yield driver
        driver.kill()


def _await(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(params=["sleep", "hang_in_native_code"])
def recipe(request: pytest.FixtureRequest) -> str:
    """A cell that hangs: in Python, or in native code with daemons around it."""
    return str(request.param)


@pytest.fixture
def run_dir(tmp_path: Path, recipe: str) -> RunDir:
    """Where drive.py puts the cell."""
    return RunDir(tmp_path / folder_name(recipe))


def _is_hanging(recipe: str, run_dir: RunDir) -> bool:
    expected = {"sleep": 1, "hang_in_native_code": 3}[recipe]
    pids = run_dir.output / "pids"
    return pids.exists() and len(pids.read_text().split()) == expected


def test_nothing_outlives_a_killed_driver(
    tmp_path: Path, recipe: str, run_dir: RunDir, survivors: Survivors
) -> None:
    """After kill -9, fork server, guard, worker and daemons are gone soon after."""
    with _driving(tmp_path, recipe) as driver:
        _await(lambda: _is_hanging(recipe, run_dir))
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    assert survivors(run_dir, 60) == []
    _await(lambda: not any(is_alive(process) for process in below), seconds=60)


def test_a_worker_follows_even_when_all_above_it_are_killed(
    tmp_path: Path, survivors: Survivors
) -> None:
    """Driver, fork server and guard at once: the kernel ends the worker."""
    run_dir = RunDir(tmp_path / folder_name("sleep"))
    with _driving(tmp_path, "sleep") as driver:
        _await(lambda: _is_hanging("sleep", run_dir))
        (worker,) = survivors(run_dir, 0)
        above = [process for process in psutil.Process(worker).parents() if process.pid != 1]
        for process in above[: above.index(psutil.Process(driver.pid)) + 1]:
            process.kill()
    assert survivors(run_dir, 60) == []


def test_ctrl_c_ends_the_cell_and_the_driver_goes_on(
    tmp_path: Path, recipe: str, run_dir: RunDir, survivors: Survivors
) -> None:
    """KeyboardInterrupt comes out of run() once the cell is gone; the driver is still good."""
    with _driving(tmp_path, recipe) as driver:
        _await(lambda: _is_hanging(recipe, run_dir))
        # The terminal signals the whole foreground group: fork server and guard get it too.
        os.killpg(driver.pid, signal.SIGINT)
        output, _ = driver.communicate(timeout=120)
    assert "interrupted, next cell exits with 0" in output
    assert driver.returncode == 0
    assert survivors(run_dir, 0) == []


def test_a_hanging_import_does_not_outlive_a_killed_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server has not come to listen to its driver yet, and goes all the same."""
    there = tmp_path / "there"
    (tmp_path / "hangs_on_import.py").write_text(
        f"import pathlib, time\npathlib.Path({str(there)!r}).touch()\ntime.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with _driving(tmp_path, "succeed", "hangs_on_import") as driver:
        _await(there.exists)
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    _await(lambda: not any(is_alive(process) for process in below), seconds=60)


def test_cells_see_nothing_of_the_driver(tmp_path: Path) -> None:
    """Under `python -m pytest` a cell never sees the test runner, nor what is typed to it."""
    (tmp_path / "test_it.py").write_text(
        "from contextlib import closing\n"
        "from drive import cell\n"
        "from tunematrix.run.local.executors import open_executor\n"
        "def test_it(tmp_path):\n"
        "    with closing(open_executor('auto', [], say=print)) as executor:\n"
        "        run_dir = cell(tmp_path, 'succeed')\n"
        "        assert executor.run(run_dir, timeout=60).code == 0\n"
        "    print(run_dir.events.read_text())\n"
    )
    pytest_options = ["-s", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_options, str(tmp_path / "test_it.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input="typed",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall('"pytest": (true|false)', done.stdout) == ["false"]
    assert re.findall('"stdin": (".*?")', done.stdout) == ['""']
