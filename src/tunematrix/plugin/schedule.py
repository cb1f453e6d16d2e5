"""Which cell runs when: as many at once as there is room for, and alone those that measure."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunematrix.spec.model import Spec

PROGRESS_SECONDS = 20.0
"""Time between two lines that tell how far the run has come."""
TAIL_BYTES = 16_000_000
"""How much of the end of the records is read for durations: more than a whole run."""


def measures_alone(spec: Spec) -> bool:
    """Return whether a spec bounds what other cells would disturb: speed.

    Peaks of memory are each process's own: with seven others at work on two cores, the allocator's
    were the same to the byte in PyTorch, and all others stayed within their bounds.
    """
    return spec.throughput is not None


def recorded_seconds(path: Path) -> dict[str, float]:
    """Return how long each cell took when it was recorded last; what can't be read is left out."""
    seconds: dict[str, float] = {}
    if not path.is_file():
        return seconds
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        for line in file:
            try:
                record = json.loads(line)
                seconds[record["cell_id"]] = float(record["durations"]["total"])
            except (ValueError, KeyError, TypeError):
                continue  # the first line may be cut, and not all that is recorded took time
    return seconds


@dataclass(eq=False, slots=True)
class Job:
    """One cell or relation that is to be run.

    Attributes:
        id: its own; needs: ids of the jobs that must have ended before.
        alone: whether nothing may run beside it; smoke: whether it is of the fastest tier.
        related: whether it is a relation, or a cell that one compares.
        expected: seconds that it took when it was recorded last; None where that isn't known.
        seconds: what it took this time; started: when, by the monotonic clock; None: not yet.
    """

    id: str
    needs: frozenset[str] = frozenset()
    alone: bool = False
    smoke: bool = False
    related: bool = False
    expected: float | None = None
    seconds: float = 0.0
    started: float | None = None

    @property
    def rank(self) -> tuple[bool, bool, bool, float]:
        """What runs first: smoke cells; then relations with their arms; then the longest."""
        length = 0.0 if self.related else self.expected or 0.0
        return self.alone, not self.smoke, not self.related, -length


class HandsOut(Protocol):
    """Hands out jobs to threads."""

    def take(self) -> Job | None:
        """Wait for a job that may begin; None when there is none left, or after `stop`."""

    def give_back(self, job: Job) -> None:
        """Take note that a job has ended: others may have waited for it."""

    def stop(self) -> None:
        """Hand out nothing more."""


class Schedule(HandsOut):
    """Hands out jobs to threads, each as soon as it may begin.

    Args:
        jobs: all of them; those of one rank keep their order.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting = sorted(jobs, key=lambda job: job.rank)
        self._running: set[Job] = set()
        self._ended: set[str] = set()
        self._stopped = False
        self._changed = threading.Condition()

    def take(self) -> Job | None:
        """Wait for a job that may begin; None when there is none left, or after `stop`."""
        with self._changed:
            while self._waiting and not self._stopped:
                if (job := self._next()) is not None:
                    self._waiting.remove(job)
                    self._running.add(job)
                    return job
                self._changed.wait()
            return None

    def give_back(self, job: Job) -> None:
        """Take note that a job has ended: others may have waited for it."""
        with self._changed:
            self._running.remove(job)
            self._ended.add(job.id)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _next(self) -> Job | None:
        if any(job.alone for job in self._running):
            return None
        job = next((job for job in self._waiting if job.needs <= self._ended), None)
        return None if job is None or (job.alone and self._running) else job


class Progress:
    """How far a run has come, and how long the rest will take.

    Args:
        jobs: all of the run; at_once: how many run at a time.
    """

    def __init__(self, jobs: Collection[Job], at_once: int) -> None:
        self._left = dict.fromkeys(jobs)
        self._total = len(jobs)
        self._at_once = at_once
        self._ended: list[Job] = []
        self._last_line = time.monotonic()

    def end(self, job: Job) -> None:
        """Take note of a job that has ended."""
        del self._left[job]
        self._ended.append(job)

    def line(self) -> str | None:
        """Return a line for the user where it is time for one."""
        if time.monotonic() - self._last_line < PROGRESS_SECONDS or not self._left:
            return None
        self._last_line = time.monotonic()
        left = self.left()
        return f"{len(self._ended)} of {self._total} done{f', {left} left' if left else ''}"

    def left(self) -> str:
        """Say how long the rest will take; nothing where none of it has been recorded before."""
        if not any(job.expected for job in self._left):
            return ""
        seconds = self.seconds_left()
        return duration(seconds) if seconds >= 1 else ""

    def seconds_left(self) -> float:
        """Estimate it from what the same cells took before, at the pace of those that ended."""
        known = [job for job in self._ended if job.expected]
        before = sum(job.expected or 0.0 for job in known)
        pace = sum(job.seconds for job in known) / before if before else 1.0
        cells = [job for job in self._ended if job.expected != 0.0]
        usual = sum(job.seconds for job in cells) / len(cells) if cells else 0.0
        beside = alone = 0.0
        for job in self._left:
            seconds = usual if job.expected is None else job.expected * pace
            if job.started is not None:
                seconds = max(0.0, seconds - (time.monotonic() - job.started))
            if job.alone:
                alone += seconds
            else:
                beside += seconds
        return alone + beside / self._at_once


def duration(seconds: float) -> str:
    """Say roughly how long something takes."""
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
