"""Several processes for one cell: how each behaves, and whose fault it is when they end early."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from types import FrameType

import psutil

from tunematrix.errors import RanksEnded
from tunematrix.evidence.events import (
    BrokenFault,
    BrokenMeter,
    Event,
    Finished,
    Raised,
    Rank,
    Refused,
)
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.local.process_tree import die_with_parent

LAST_LINES = 5
CUT_OFF = ("gloo/", "Watchdog caught collective operation timeout", "DistBackendError", "NCCL")
"""What a rank says that fails because another one has left, or never came."""

_STACK = "(most recent call first):"
_GRACE_SECONDS = 1.0
_TICK = 0.2


def follow_launcher() -> None:
    """Ends this process when the one that started it ends, even in the midst of native code."""
    launcher = os.getppid()
    if not die_with_parent():
        threading.Thread(target=_kill_self_without, args=(launcher,), daemon=True).start()


def dump_when_terminated() -> None:
    """Has this process say where it was when it is told to end, and end at once."""
    # A handler in Python, such as a launcher's that was inherited, would wait for native code.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.register(signal.SIGTERM, all_threads=False, chain=True)


def let_the_culprit_go_first(names: Sequence[str], message: str) -> None:
    """Waits a moment if the error is another rank's doing, so that the launcher sees that one."""
    if _is_cut_off("\n".join((*names, message))):
        time.sleep(_GRACE_SECONDS)


@contextmanager
def dumps_passed_on() -> Iterator[None]:
    """Hands a request to dump this process's threads on to the processes that it started."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                child.send_signal(number)

    faulthandler.unregister(signal.SIGUSR1)
    before = signal.signal(signal.SIGUSR1, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def collect(run_dir: RunDir) -> None:
    """Adds what the other ranks say of themselves to the cell's own events."""
    files = sorted(run_dir.path.glob("rank-*/events.jsonl"))
    with EventLog(run_dir.events) as events:
        for event in (event for file in files for event in read_events(file)):
            if isinstance(event, Rank):
                events.write(event)


def blame(run_dir: RunDir, ended: RanksEnded) -> tuple[Event, ...]:
    """Says which rank ended the others, how, and with which last lines.

    Before that comes what a rank other than the first was refused, and which fault broke in it.
    """
    found = [_Trace(run_dir, number) for number in range(ended.processes)]
    others = [event for trace in found[1:] for event in trace.events]
    setbacks = [event for event in others if isinstance(event, Refused | BrokenFault | BrokenMeter)]
    return (*dict.fromkeys(setbacks), _raised(found, ended))


def _raised(found: Sequence[_Trace], ended: RanksEnded) -> Raised:
    culprit = _culprit(found, ended.codes)
    name = f"rank {culprit.number} of {ended.processes}" if ended.processes > 1 else "it"
    if (raised := culprit.raised) is not None:
        message = f"{name}: {raised.message}{culprit.last_lines}"
        return Raised(raised.phase, raised.exception, message)
    if (code := ended.codes.get(culprit.number)) is None:
        how = "left the others waiting until their time was over, and was ended"
    elif code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code}, before the recipe's end"
    kinds = (f"{RanksEnded.__module__}.{RanksEnded.__name__}", "RuntimeError", "Exception")
    return Raised("", kinds, f"{name} {how}{culprit.last_lines}")


@dataclass(frozen=True)
class _Trace:
    """What one rank left behind."""

    run_dir: RunDir
    number: int

    @cached_property
    def events(self) -> tuple[Event, ...]:
        file = self.run_dir.rank(self.number).events if self.number else self.run_dir.events
        return read_events(file) if file.exists() else ()

    @cached_property
    def log(self) -> str:
        own = self.run_dir.rank(self.number)
        # A process that nobody redirected shares the cell's own logs.
        places = (own.stderr, own.stdout) if own.stderr.exists() else (self.run_dir.stderr,)
        texts = (place.read_text("utf-8", "replace") for place in places if place.exists())
        return next((text for text in texts if text.strip()), "")

    @property
    def raised(self) -> Raised | None:
        return next((event for event in self.events if isinstance(event, Raised)), None)

    @property
    def has_finished(self) -> bool:
        return any(isinstance(event, Finished) for event in self.events)

    @property
    def is_cut_off(self) -> bool:
        raised = self.raised
        said = self.log if raised is None else "\n".join((*raised.exception, raised.message))
        return _is_cut_off(said)

    @property
    def last_lines(self) -> str:
        stack = self.log.rpartition(_STACK)[2].split("\n")[1:] if _STACK in self.log else []
        lines = stack[:LAST_LINES] or self.log.strip().split("\n")[-LAST_LINES:]
        return "".join(f"\n    {line.strip()}" for line in lines if line.strip())


def _culprit(found: Sequence[_Trace], codes: Mapping[int, int]) -> _Trace:
    """Return the rank that raised or died by itself; else one that the others waited for."""
    whole = [trace for trace in found if not trace.is_cut_off]
    by_itself = [trace for trace in whole if trace.raised or trace.number in codes]
    missed = [trace for trace in whole if not trace.has_finished]
    noticed = [trace for trace in found if trace.number in codes]
    return (by_itself or missed or noticed)[0]


def _is_cut_off(said: str) -> bool:
    return any(sign in said for sign in CUT_OFF)


def _kill_self_without(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_TICK)
    os.kill(os.getpid(), signal.SIGKILL)
