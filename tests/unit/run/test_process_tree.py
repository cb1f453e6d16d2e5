"""Trees of real processes: found, ended politely at first, and told apart from older ones."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tunematrix.run.local.process_tree import ProcessTree, become_subreaper, is_alive

_POLITE = """
import pathlib, signal, sys, time
def note(*_):
    pathlib.Path(sys.argv[1]).write_text("asked")
    sys.exit()
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
time.sleep(600)
"""

# Without a subreaper the orphan is nobody's; only its session tells where it came from.
_ORPHAN = """
import subprocess, time
from tunematrix.run.local.process_tree import ProcessTree, is_alive
tree = ProcessTree(complete=False)
shell = subprocess.Popen(["sh", "-c", "sleep 0.5; sleep 600 &"], start_new_session=True)
time.sleep(0.2)
tree.living()
shell.wait()
while [p.name() for p in tree.living()] == ["sh"]:
    time.sleep(0.05)  # forked, and not yet become what it is to run
living = tree.living()
print([process.name() for process in living], tree.end(), [p for p in living if is_alive(p)])
"""


def test_a_tree_is_asked_before_it_is_killed(tmp_path: Path) -> None:
    """A process that handles SIGTERM gets to clean up."""
    tree = ProcessTree(complete=become_subreaper())
    asked = tmp_path / "asked"
    command = [sys.executable, "-c", _POLITE, str(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert tree.end() == ()
    assert asked.read_text() == "asked"


def test_older_processes_are_not_of_the_tree() -> None:
    """What ran before the tree was made is neither listed nor ended."""
    older = psutil.Popen(["sleep", "600"])
    tree = ProcessTree(complete=become_subreaper())
    newer = psutil.Popen(["sleep", "600"])
    try:
        assert {process.pid for process in tree.living()} == {newer.pid}
        assert len(tree.outlasting(0)) == 1
        tree.end()
        tree.reap()
        assert is_alive(older)
        assert not psutil.pid_exists(newer.pid)
    finally:
        for process in (older, newer):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        older.wait()


def test_an_empty_tree_costs_no_waiting() -> None:
    """Neither grace is spent when nothing runs."""
    tree = ProcessTree(complete=become_subreaper())
    started = time.monotonic()
    assert (tree.outlasting(5), tree.end()) == ((), ())
    assert time.monotonic() - started < 4


def test_orphans_are_found_by_their_session_where_no_kernel_helps() -> None:
    """The way for systems without subreapers: what was in the session of a known process."""
    done = subprocess.run(
        [sys.executable, "-c", _ORPHAN], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "['sleep'] () []\n"
