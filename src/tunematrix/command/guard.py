"""The program between the driver and a command: runs it, watches it, ends it, measures it.

The driver writes a job to its stdin as one JSON line and holds that pipe open; a closed
pipe means stop. It writes one JSON line, the outcome, to its stdout. It is a process of its own so
that all orphans of the command become its children, and no others; it imports the least there is,
because each cell waits for that.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import psutil

from tunematrix.command.library import SharedLibrary
from tunematrix.command.worlds import Worlds
from tunematrix.run.local.process_tree import ProcessTree, become_subreaper

_TICK = 0.05
_GPU_SECONDS = 0.5
_DUMP_SECONDS = 3.0
# Helpers that notice by themselves that their parent has ended get this long to follow.
_LEFTOVER_SECONDS = 2.0
# When one of several processes has failed, the others get this long to fail by themselves.
_FOLLOW_SECONDS = 2.0
_MEGABYTE = 1_000_000
_GPU_QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
_PROCESS_QUERY = (
    "nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits",
)  # fmt: skip


class TreeMeter:
    """What a process tree comes to: its peaks of memory, its worlds, and a library in it.

    Args:
        tree: the processes. gpu: whether their GPU memory is read.
        worlds: what sees how many train together; None where one does.
        library: what looks for a library in them; None where none is asked for.
    """

    def __init__(
        self, tree: ProcessTree, gpu: bool, worlds: Worlds | None, library: SharedLibrary | None
    ) -> None:
        self.worlds = worlds
        self.library = library
        self.resident = 0
        self.gpu: int | None = None
        self.gpu_method = ""
        self._tree = tree
        self._gpu_base = _gpu_used() if gpu else None
        self._next_gpu = 0.0

    def read(self) -> None:
        """Take one reading."""
        living = self._tree.living()
        self.resident = max(self.resident, sum(map(_resident, living)))
        if self.worlds is not None:
            self.worlds.read(living)
        if self.library is not None:
            self.library.read(living)
        if self._gpu_base is not None and time.monotonic() >= self._next_gpu:
            self._read_gpu({process.pid for process in living})
            self._next_gpu = time.monotonic() + _GPU_SECONDS

    def _read_gpu(self, pids: set[int]) -> None:
        own = _gpu_of(pids)
        if own is None:  # process ids mean nothing in a container; the whole device does
            used = _gpu_used()
            own = None if used is None or self._gpu_base is None else used - self._gpu_base
            method = "growth of the devices' used memory"
        else:
            method = "memory of the command's own processes"
        if own is not None and own >= (self.gpu or 0):
            self.gpu, self.gpu_method = own, method


def main() -> None:
    """Run the job; print the outcome."""
    job = json.loads(sys.stdin.readline())
    outcome = run(job, sys.stdin)
    with suppress(OSError):  # a driver that is gone wants no answer
        print(json.dumps(outcome), flush=True)


def run(job: dict[str, Any], driver: TextIO) -> dict[str, Any]:
    """Run the processes of a job until they have ended; return what became of them."""
    tree = ProcessTree(complete=become_subreaper())
    worlds = Worlds() if job["together"] > 1 else None
    library = SharedLibrary.named(job["library"])
    meter = TreeMeter(tree, job["gpu"], worlds, library)
    started = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []
    outcome: dict[str, Any] = {"problem": None, "timed_out": False, "leftovers": []}
    outcome |= {"unstartable": None, "failed": []}
    try:
        for each in job["processes"]:
            processes += [_start(each, job["folder"])]
        verdict = _watch(processes, started + job["timeout"], driver, meter, outcome)
    except OSError as error:
        outcome["unstartable"] = error.strerror or str(error)
        verdict = "not started"
    outcome["seconds"] = time.monotonic() - started
    if verdict == "timed out":
        outcome["timed_out"] = True
        _dump(tree)
    elif verdict == "ended":
        outcome["leftovers"] = list(tree.outlasting(_LEFTOVER_SECONDS))
    elif verdict == "the driver ended":
        outcome["problem"] = verdict
    if survivors := tree.end():
        outcome["problem"] = f"could not be ended: {'; '.join(survivors)}"
    outcome["codes"] = [process.poll() for process in processes]
    tree.reap()
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    largest *= 1 if sys.platform == "darwin" else 1024
    outcome |= {"resident": max(meter.resident, largest)}
    outcome |= {"gpu": meter.gpu, "gpu_method": meter.gpu_method}
    outcome["world"] = None if worlds is None else worlds.size
    outcome["loaded"] = None if library is None else library.loaded
    return outcome


def _start(each: dict[str, Any], folder: str) -> subprocess.Popen[bytes]:
    with Path(each["stdout"]).open("ab") as out, Path(each["stderr"]).open("ab") as err:
        return subprocess.Popen(
            each["words"],
            cwd=folder,
            env=each["variables"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_without_core_files,
        )


def _without_core_files() -> None:
    """Keeps a crash from writing a core file into the folder that the command runs in."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(
    processes: list[subprocess.Popen[bytes]],
    deadline: float,
    driver: TextIO,
    meter: TreeMeter,
    outcome: dict[str, Any],
) -> str:
    """Wait until all have ended; say what happened first, and note which failed first."""
    failed_at: float | None = None
    while any(process.poll() is None for process in processes):
        meter.read()
        now = time.monotonic()
        if now > deadline:
            return "timed out"
        if failed_at is None and (failed := _failed(processes)):
            outcome["failed"], failed_at = failed, now
        if failed_at is not None and now > failed_at + _FOLLOW_SECONDS:
            return "one failed"
        if _has_hung_up(driver, processes):
            return "the driver ended"
    outcome["failed"] = outcome["failed"] or _failed(processes)
    return "ended"


def _failed(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    return [number for number, process in enumerate(processes) if process.poll()]


def _has_hung_up(driver: TextIO, processes: Iterable[subprocess.Popen[bytes]]) -> bool:
    """Wait for one tick, or less where a process ends; whether the driver has closed its pipe."""
    running = next((process for process in processes if process.poll() is None), None)
    if running is not None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(_TICK)
    readable, _, _ = select.select([driver], [], [], 0)
    return bool(readable) and not os.read(driver.fileno(), 1)


def _dump(tree: ProcessTree) -> None:
    """Have each Python say where it hangs: its faulthandler, which we switched on, does so."""
    living = tree.living()
    for process in living:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGABRT)
    deadline = time.monotonic() + _DUMP_SECONDS
    while tree.living() & living and time.monotonic() < deadline:
        time.sleep(_TICK)


def _resident(process: psutil.Process) -> int:
    try:
        size: int = process.memory_info().rss
        return size
    except psutil.Error:
        return 0


def _gpu_used() -> int | None:
    """Bytes in use on all devices; None where nothing can say."""
    lines = _asked(_GPU_QUERY)
    return None if lines is None else _MEGABYTE * sum(int(line) for line in lines)


def _gpu_of(pids: set[int]) -> int | None:
    """Bytes that these processes use; None where none of them is listed."""
    rows = [line.split(",") for line in _asked(_PROCESS_QUERY) or ()]
    own = [int(used) for pid, used in rows if int(pid) in pids]
    return _MEGABYTE * sum(own) if own else None


def _asked(query: tuple[str, ...]) -> list[str] | None:
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        lines = [line.strip() for line in done.stdout.splitlines()]
        return [line for line in lines if line and line.replace(",", "").replace(" ", "").isdigit()]
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    main()
