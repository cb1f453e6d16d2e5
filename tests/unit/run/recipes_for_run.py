"""Tiny recipes that end in all the ways a cell can end; imported by workers, never by tests."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tunematrix.configuration import Configuration
from tunematrix.errors import Obstacle, Unavailable
from tunematrix.evidence.events import Determinants
from tunematrix.evidence.log import EventLog

Config = Configuration


def succeed(config: Config, events: EventLog, output_dir: Path) -> None:
    """Says something everywhere a cell can, and tells what it finds in its process."""
    print("hello from the cell \udcff")
    print("a warning from the cell", file=sys.stderr)
    os.write(1, b"straight to the descriptor\n")
    with events.phase("save"):
        (output_dir / "deep").mkdir()
        (output_dir / "deep" / "result.txt").write_text("done")
    surroundings = {
        "session": os.getsid(0),
        "pytest": "pytest" in sys.modules,
        "preloaded": "email.mime.text" in sys.modules,
        "variables": [name for name in os.environ if name.startswith("TUNEMATRIX_")],
        "hash": hash("tunematrix"),
        "start_method": multiprocessing.get_start_method(allow_none=True),
        "stdin": os.read(0, 1).decode(),
    }
    events.write(Determinants(surroundings))


def name_references(config: Config, events: EventLog, output_dir: Path) -> None:
    """Tells where it would share what it measures of an original."""
    events.write(Determinants({"references": config.references}))


def raise_in_phase(config: Config, events: EventLog, output_dir: Path) -> None:
    """Raises a subclass of OSError while it trains."""
    with events.phase("load"):
        pass
    with events.phase("train"):
        raise ConnectionResetError("no more tokens")


def raise_advice(config: Config, events: EventLog, output_dir: Path) -> None:
    """Raises what libraries say: in colours, and with advice."""
    raise ValueError("\x1b[31mno such\x1b[0m key\n\n" + "\n".join(f"try {n}" for n in range(12)))


def run_out_of_memory(config: Config, events: EventLog, output_dir: Path) -> None:
    """Asks for more memory than there is."""
    bytearray(1 << 62)


def segfault(config: Config, events: EventLog, output_dir: Path) -> None:
    """Reads address 0."""
    print("last words")
    ctypes.string_at(0)


def exit_at_once(config: Config, events: EventLog, output_dir: Path) -> None:
    """Leaves without cleaning up."""
    os._exit(3)


def kill_itself(config: Config, events: EventLog, output_dir: Path) -> None:
    """Dies as under the out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(config: Config, events: EventLog, output_dir: Path) -> None:
    """Waits for something that never comes, in two threads."""
    threading.Thread(target=_wait_in_another_thread, daemon=True).start()
    _record(output_dir, os.getpid())
    time.sleep(600)


def hang_in_native_code(config: Config, events: EventLog, output_dir: Path) -> None:
    """Holds the interpreter's lock for good, daemons around it."""
    _start_daemons(output_dir)
    _record(output_dir, os.getpid())
    re.match(r"(a+)+$", "a" * 64 + "b")


def leave_daemons(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well, but leaves processes behind that left its session and are deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _start_daemons(output_dir)


def leave_a_forked_child(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well, but a forked child lives on that holds all its files open."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    _record(output_dir, child)


def leave_a_short_lived_child(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends while a helper still needs half a second to end by itself."""
    _record(output_dir, subprocess.Popen(["sleep", "0.5"]).pid)


def kill_fork_server(config: Config, events: EventLog, output_dir: Path) -> None:
    """Kills what every cell is forked from, then waits."""
    _record(output_dir, os.getpid())
    os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
    time.sleep(600)


def kill_guard(config: Config, events: EventLog, output_dir: Path) -> None:
    """Kills the process that guards it, daemons around it, then waits."""
    _start_daemons(output_dir)
    _record(output_dir, os.getpid())
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def use_processes(config: Config, events: EventLog, output_dir: Path) -> None:
    """Uses each way of starting processes, as data loaders do."""
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            events.write(Determinants({"pid": pool.apply(os.getpid)}))


def stop_at_a_breakpoint(config: Config, events: EventLog, output_dir: Path) -> None:
    """Waits for someone at the terminal."""
    answer = "not looked at"
    breakpoint()
    print(f"the answer was {answer}")


def read_context(config: Config, events: EventLog, output_dir: Path) -> None:
    """Tells what it was given, as seen under a fault."""
    details = {"learning_rate": config.train.learning_rate, "planted": os.environ.get("PLANTED")}
    events.write(Determinants(details))


@contextmanager
def plant(config: Config) -> Iterator[None]:
    """A fault that leaves a trace as long as it is entered."""
    os.environ["PLANTED"] = str(config.train.learning_rate)
    yield
    del os.environ["PLANTED"]


def prepare(path: str) -> None:
    """A preparation."""
    print("preparing")
    Path(path).write_text("ready")


def fill(cache_dir: str) -> None:
    """A preparation that leaves something in the cache."""
    Path(cache_dir).mkdir()
    (Path(cache_dir) / "filled").touch()


def refuse() -> None:
    """A preparation that finds no device, and says so in words that could mislead."""
    raise Unavailable(Obstacle("a device", "Unusable: none\nto do: ", "buy one", present=True))


@contextmanager
def break_down(config: Config) -> Iterator[None]:
    """A fault that raises itself."""
    raise LookupError("what it would sabotage is gone")
    yield


def canary_that_lives() -> None:
    """A parallel operation that works after a fork."""


def canary_that_dies() -> None:
    """A parallel operation that breaks after a fork."""
    raise RuntimeError("parallel work after a fork")


def _start_daemons(output_dir: Path) -> None:
    """Starts a process with a session of its own, and one that forked twice to get away."""
    _record(output_dir, subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            time.sleep(600)
        os.write(write, str(daemon).encode())
        os._exit(0)
    os.wait()
    _record(output_dir, int(os.read(read, 20)))


def _record(output_dir: Path, pid: int) -> None:
    """Adds a process id to those that must be gone in the end."""
    with (output_dir / "pids").open("a") as pids:
        pids.write(json.dumps(pid) + "\n")


def _wait_in_another_thread() -> None:
    time.sleep(600)
