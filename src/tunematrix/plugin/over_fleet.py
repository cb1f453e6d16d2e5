"""pytest's loop where cells run on a fleet: all are sent, and taken as their results arrive."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

import pytest

from tunematrix.fleet.driver import Fleet
from tunematrix.fleet.tickets import Hears
from tunematrix.plugin.items import CellItem, SpecItem
from tunematrix.plugin.live import LiveView
from tunematrix.plugin.loop import SideBySide
from tunematrix.plugin.schedule import HandsOut, Job
from tunematrix.plugin.spooling import spool_junit
from tunematrix.plugin.suite import Suite

_NO_KEYWORDS: dict[str, Literal[1]] = {}
_NO_PROPERTIES: list[tuple[str, object]] = []
_MOST_WAITING = 200
"""Results that wait here to be taken, before no more cells are sent."""
_THREADS = 8
"""Which take what has come; a relation with a sabotaged arm keeps one waiting for that."""


class OverFleet(SideBySide):
    """pytest's loop over a run whose cells run on other machines.

    Args:
        suite: the run's; fleet: connected.
    """

    def __init__(self, suite: Suite, fleet: Fleet) -> None:
        super().__init__(suite, max(1, fleet.capacity))
        self._fleet = fleet
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Have the JUnit file written case by case, before pytest has seen any."""
        spool_junit(session.config, self.suite.context.folder)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of the reports of an item, which pytest keeps to the end."""
        self._reports.append(report)

    def reported(self, item: SpecItem) -> None:
        """Let go of whatever nobody asks for any more, of an item that has been reported."""
        item.forget()
        for report in self._reports:
            if report.passed:
                report.keywords, report.user_properties = _NO_KEYWORDS, _NO_PROPERTIES
        self._reports.clear()

    @property
    def threads(self) -> int:
        """How many threads take what has come."""
        return _THREADS

    def get_started(self, jobs: Mapping[Job, SpecItem], view: LiveView) -> None:
        """Say which workers there are."""
        del jobs, view
        for line in self._fleet.lines:
            self.suite.say(line)

    def schedule(self, jobs: Mapping[Job, SpecItem]) -> HandsOut:
        """Send all cells, and return what hands out those that have come back."""
        arrivals = Returning(jobs)
        ordered = sorted(jobs, key=lambda job: job.rank[1:])
        cells = ((job, item) for job in ordered if isinstance(item := jobs[job], CellItem))
        errands = (
            (item.cell, item.expected if "probe" in item.keywords else None, job.alone)
            for job, item in cells
        )
        self._fleet.send(errands, arrivals)
        return arrivals


class Returning(HandsOut, Hears):
    """Hands out cells whose results have come, and relations whose arms have been taken.

    Args:
        jobs: all of them, with their items.
    """

    def __init__(self, jobs: Mapping[Job, SpecItem]) -> None:
        self._come = queue.SimpleQueue[Job | None]()
        self._left = len(jobs)
        self._cells = {job.id: job for job, item in jobs.items() if isinstance(item, CellItem)}
        self._lock = threading.Lock()
        self._lacks: dict[Job, set[str]] = {}
        self._waiting_for = defaultdict[str, list[Job]](list)
        for job, item in jobs.items():
            if isinstance(item, CellItem):
                continue
            self._lacks[job] = set(job.needs)
            for name in job.needs:
                self._waiting_for[name].append(job)
            if not job.needs:
                self._come.put(job)

    def begun(self, cell: str) -> None:
        """Take note that a cell has begun, as nearly as that is known here."""
        self._cells[cell].started = time.monotonic()

    def arrived(self, cell: str) -> None:
        """Take note that the result of a cell is there."""
        self._come.put(self._cells[cell])

    @property
    def is_behind(self) -> bool:
        """Whether results have come faster than they are taken."""
        return self._come.qsize() > _MOST_WAITING

    def take(self) -> Job | None:
        """Wait for a job whose results are there; None when there is none left, or after `stop`."""
        with self._lock:
            if not self._left:
                return None
            self._left -= 1
        job = self._come.get()
        if job is None:
            self._come.put(None)  # for the other threads
        return job

    def give_back(self, job: Job) -> None:
        """Take note that a cell has been taken: relations may have waited for it."""
        with self._lock:
            for relation in self._waiting_for.pop(job.id, ()):
                lacks = self._lacks[relation]
                lacks.discard(job.id)
                if not lacks:
                    self._come.put(relation)

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._left = 0
        self._come.put(None)
