"""Processes below this one: found even after they left their session, ended, and reaped."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Set
from contextlib import suppress
from multiprocessing.connection import wait

import psutil

_TERMINATE_SECONDS = 2.0
# Nothing refuses SIGKILL, but on a machine with far too much to do it takes its time.
_KILL_SECONDS = 20.0
_TICK = 0.02
_COMMAND_LENGTH = 200

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Makes orphans among all descendants children of this process; False where that can't be."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(on: bool = True) -> bool:
    """Has the kernel kill this process when its parent ends; False where the kernel can't."""
    return _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if on else 0)


def follow_parent() -> None:
    """Ends this process when its multiprocessing parent ends, even in the midst of native code."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if not die_with_parent():
        threading.Thread(target=_kill_self_after, args=(parent.sentinel,), daemon=True).start()
    if os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie doesn't."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> set[psutil.Process]:
    """All processes below this one, zombies included."""
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


class ProcessTree:
    """Descendants of this process that came into being after the tree was made.

    Where the kernel hands orphans to this process, the tree is complete at any time. Elsewhere
    (macOS) it holds what `living()` has seen so far, what descends from that, and what is in
    their sessions; a daemon that detaches between two calls escapes.

    Attributes:
        complete: whether orphans become children of this process.

    Args:
        others: returns processes that aren't the tree's, though they may be newer than it.
    """

    def __init__(self, complete: bool, others: Callable[[], Set[psutil.Process]] = set) -> None:
        self.complete = complete
        self._others = others
        self._older = descendants(os.getpid())
        self._seen: set[psutil.Process] = set()
        self._pids: set[int] = set()

    def living(self) -> set[psutil.Process]:
        """The processes of the tree that still run."""
        found = descendants(os.getpid())
        if not self.complete:
            found |= _in_sessions_of(self._pids)
            found = found.union(*(descendants(process.pid) for process in self._seen | found))
        found -= self._others()
        self._seen = {process for process in self._seen | found - self._older if is_alive(process)}
        self._pids |= {process.pid for process in self._seen}
        return set(self._seen)

    def outlasting(self, seconds: float) -> tuple[str, ...]:
        """Command lines of what still runs after this time; returns at once when nothing does."""
        deadline = time.monotonic() + seconds
        while (living := self.living()) and time.monotonic() < deadline:
            time.sleep(_TICK)
        return _commands(living)

    def end(self) -> tuple[str, ...]:
        """Ends the tree, politely at first; returns command lines of what could not be ended."""
        living = self._signal(signal.SIGTERM, _TERMINATE_SECONDS)
        if living:
            living = self._signal(signal.SIGKILL, _KILL_SECONDS)
        return _commands(living)

    def reap(self) -> None:
        """Removes the zombies of the tree that are children of this process."""
        for process in set(psutil.Process().children()) - self._older:
            if not is_alive(process):
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)

    def _signal(self, number: signal.Signals, seconds: float) -> set[psutil.Process]:
        """Signals the tree, newcomers too, until nothing runs or the time is over."""
        signalled: set[psutil.Process] = set()
        deadline = time.monotonic() + seconds
        while (living := self.living()) and time.monotonic() < deadline:
            for process in living - signalled:
                # Gone in the meantime, or another user's: what remains is returned.
                with suppress(psutil.Error):
                    process.send_signal(number)
            signalled |= living
            time.sleep(_TICK)
        return living


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    result: int = ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
    return result == 0


def _kill_self_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _in_sessions_of(leaders: Set[int]) -> set[psutil.Process]:
    members = set()
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(process.pid) in leaders:
                members.add(process)
    return members


def _commands(processes: Set[psutil.Process]) -> tuple[str, ...]:
    own = psutil.Process().cmdline()
    commands = []
    for process in processes:
        with suppress(psutil.Error):
            command = process.cmdline()
            text = "forked by the cell" if command == own else " ".join(command) or process.name()
            commands.append(f"{text[:_COMMAND_LENGTH]} (pid {process.pid})")
    return tuple(sorted(commands))
