"""The program between a step and the server that it tries, so that no server outlives its step.

The step holds this program's stdin open; once that is closed, or the step's process is gone, the
server is ended. Our own words are JSON lines on stdout: first the server's pid, at last how it all
ended. What the server prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

import psutil

_FOLLOW_SECONDS = 2.0
_TICK = 0.05

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _Told:
    """Whether this program was told to end, by a signal."""

    def __init__(self) -> None:
        self.to_end = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.to_end = True


def main() -> None:
    """Run a server until it ends, or until nobody wants it any more.

    Our arguments: the seconds that it may take to end when it is told, then its words.
    """
    polite, *words = sys.argv[1:]
    told = _Told()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that what the server leaves is found below us
    server = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
        preexec_fn=_die_with_guard,
    )
    _say({"pid": server.pid})
    while server.poll() is None and not told.to_end:
        readable, _, _ = select.select([sys.stdin], [], [], _TICK)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    asked, began = server.poll() is None, time.monotonic()
    killed = asked and not _ended_within(float(polite), server)
    seconds = time.monotonic() - began
    left = _outlasting(server.pid)
    commands = [_command(process) for process in left]  # those that are killed have none
    _end(server, left)
    _say(
        {
            "code": server.returncode,
            "asked": asked,
            "killed": killed,
            "seconds": seconds,
            "left": commands,
        }
    )


def _die_with_guard() -> None:
    """Have the kernel end the server if this program is killed; only Linux's can."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def _say(word: dict[str, object]) -> None:
    with suppress(OSError):  # whoever is gone wants no answer
        print(json.dumps(word), flush=True)


def _ended_within(seconds: float, server: subprocess.Popen[bytes]) -> bool:
    with suppress(ProcessLookupError):
        server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(seconds)
    return server.returncode is not None


def _outlasting(group: int) -> list[psutil.Process]:
    """Return what of the server still runs; helpers that follow it get a moment to do so."""
    deadline = time.monotonic() + _FOLLOW_SECONDS
    while (living := _living(group)) and time.monotonic() < deadline:
        time.sleep(_TICK)
    return living


def _living(group: int) -> list[psutil.Process]:
    """Return the processes of the server's group and those below us; the server isn't one."""
    found = {*psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getpgid(process.pid) == group:
                found.add(process)
    return [process for process in found if process.pid != group and _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(server: subprocess.Popen[bytes], others: list[psutil.Process]) -> None:
    if server.poll() is None:
        server.kill()
    for process in others:
        with suppress(psutil.Error):
            process.kill()
    server.wait()
    psutil.wait_procs(others, timeout=_FOLLOW_SECONDS)  # so that no zombie outlives us


def _command(process: psutil.Process) -> str:
    try:
        return f"{' '.join(process.cmdline())[:200]} (pid {process.pid})"
    except psutil.Error:
        return f"pid {process.pid}"


if __name__ == "__main__":
    main()
