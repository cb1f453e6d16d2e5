"""pytest's loop over the items: cells run side by side in threads, and are reported as they end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import nullcontext

import pytest

from tunematrix.plugin.items import CellItem, RelationItem, SpecItem
from tunematrix.plugin.live import LiveView
from tunematrix.plugin.schedule import (
    HandsOut,
    Job,
    Progress,
    Schedule,
    measures_alone,
    recorded_seconds,
)
from tunematrix.plugin.suite import Suite
from tunematrix.results.record import Record
from tunematrix.workflow.cells import get_ready

_TICK = 0.2
_NOTHING = frozenset[str]()


class SideBySide:
    """pytest's loop over the items of a run: cells run in threads, and are reported as they end.

    A thread only waits for the process of its cell. Records, reports and the terminal are the main
    thread's.

    Args:
        suite: the run's; at_once: how many cells run at a time.
    """

    def __init__(self, suite: Suite, at_once: int) -> None:
        self.suite = suite
        self.at_once = at_once

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all cells and relations, then whatever else was collected; None: as pytest does."""
        jobs = jobs_of(session.items, recorded_seconds(self.suite.store.path))
        if not jobs or session.testsfailed:
            return None
        others = [item for item in session.items if not isinstance(item, SpecItem)]
        with LiveView(self.suite, jobs, Progress(jobs, self.at_once)) as view:
            self.get_started(jobs, view)
            self._run(session, jobs, view, others[0] if others else None)
        for number, item in enumerate(others, 1):
            following = others[number] if number < len(others) else None
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            _stop_where_asked(session)
        return True

    def schedule(self, jobs: Mapping[Job, SpecItem]) -> HandsOut:
        """Return what hands out the jobs."""
        return Schedule(jobs)

    @property
    def threads(self) -> int:
        """How many threads take them."""
        return self.at_once

    def get_started(self, jobs: Mapping[Job, SpecItem], view: LiveView) -> None:
        """Start what takes its time, before there are threads."""
        self._start_the_server(jobs, view)

    def reported(self, item: SpecItem) -> None:
        """Take note that all of pytest has seen what became of an item."""

    def _start_the_server(self, jobs: Mapping[Job, SpecItem], view: LiveView) -> None:
        """Start the fork server, before there are threads."""
        context = self.suite.context
        cells = (item.cell for item in jobs.values() if isinstance(item, CellItem))
        sharing = (cell for cell in cells if not context.runs_command(cell))
        if cell := next((cell for cell in sharing if context.obstacle(cell) is None), None):
            with view.importing() if context.isolation != "spawn" else nullcontext():
                get_ready(cell, context)

    def _run(
        self,
        session: pytest.Session,
        jobs: Mapping[Job, SpecItem],
        view: LiveView,
        after: pytest.Item | None,
    ) -> None:
        """Run jobs in threads; report each as it ends. Ends what is under way when stopped."""
        # Threads wait where records come faster than they can be reported: memory is for few.
        schedule, ended = self.schedule(jobs), queue.Queue[Job](2 * self.threads)
        work = (schedule, jobs, ended)
        threads = [threading.Thread(target=_work, args=work) for _ in range(self.threads)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, len(jobs) + 1):
                job = self._next_ended(ended, threads, view)
                following = after if number == len(jobs) else None
                jobs[job].ihook.pytest_runtest_protocol(item=jobs[job], nextitem=following)
                view.end(job)
                self.reported(jobs[job])
                _stop_where_asked(session)
        except BaseException:
            schedule.stop()
            self._keep_unreported(session, jobs, ended)
            self.suite.context.interrupt()
            raise
        finally:
            for thread in threads:
                thread.join()
            self.suite.say_what_waits()

    def _next_ended(
        self, ended: queue.Queue[Job], threads: Sequence[threading.Thread], view: LiveView
    ) -> Job:
        """Wait for a job to end, saying what its thread had to say."""
        while True:
            self.suite.say_what_waits()
            view.draw()
            # Looked at before the queue, so that the last job of a thread isn't missed.
            is_worked_on = any(thread.is_alive() for thread in threads)
            try:
                return ended.get(timeout=_TICK)
            except queue.Empty:
                if not is_worked_on:
                    message = "the threads that run cells have ended before all cells had"
                    raise RuntimeError(message) from None

    def _keep_unreported(
        self,
        session: pytest.Session,
        jobs: Mapping[Job, SpecItem],
        ended: queue.Queue[Job],
    ) -> None:
        """Record what has ended by itself, though the run stops before pytest reports it."""
        recorder = session.config.pluginmanager.get_plugin("tunematrix-recorder")
        while recorder is not None and not ended.empty():
            carried = jobs[ended.get()].carried
            if carried is not None and carried.exception() is None:
                recorder.keep(carried.result())


def _work(schedule: HandsOut, items: Mapping[Job, SpecItem], ended: queue.Queue[Job]) -> None:
    """Run one job after another, as long as there are any."""
    while (job := schedule.take()) is not None:
        item, outcome = items[job], Future[Record]()
        job.started = job.started or time.monotonic()
        try:
            outcome.set_result(item.make_record())
        except BaseException as error:  # noqa: BLE001 - pytest reports it from the main thread
            outcome.set_exception(error)
        job.seconds = item.seconds = _seconds(job.started, outcome)
        item.carried = outcome
        schedule.give_back(job)
        ended.put(job)


def _seconds(started: float, outcome: Future[Record]) -> float:
    """Return what a job took: where its cell ran, if that was on another machine."""
    if outcome.exception() is None and "worker" in (record := outcome.result()).machine:
        return record.durations.get("total", 0.0)
    return time.monotonic() - started


def _stop_where_asked(session: pytest.Session) -> None:
    """End the loop as pytest's own does."""
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def takes_the_loop(suite: Suite) -> bool:
    """Return whether cells run in threads of this process; if not, pytest's own loop runs them.

    It does where they run in this very process, where xdist's workers run them, or where an option
    counts on pytest's order.
    """
    option = suite.config.option
    others = ("setuponly", "setupplan", "stepwise", "usepdb", "trace", "collectonly")
    if any(getattr(option, name, False) for name in others):
        return False
    return suite.context.isolation != "foreground" and getattr(option, "dist", "no") == "no"


def take_over_workers(suite: Suite) -> int | None:
    """Return what `-n` asks for; where all that runs are cells, keep xdist from starting workers.

    Cells have processes of their own. Those of one fork server share their libraries; each of
    xdist's workers would import them again.
    """
    option = suite.config.option
    asked: int | None = getattr(option, "numprocesses", None)
    if asked is not None and suite.arguments.is_only_specs:
        option.dist, option.tx, option.numprocesses = "no", [], None
    return asked


def jobs_of(items: Sequence[pytest.Item], seconds: Mapping[str, float]) -> dict[Job, SpecItem]:
    """Return the jobs of all cells and relations among some items, each with its item.

    Args:
        items: the items; seconds: how long cells took before, by id.
    """
    planned = [item for item in items if isinstance(item, SpecItem)]
    cells = {item.cell.id for item in planned if isinstance(item, CellItem)}
    return {_job(item, cells, seconds): item for item in planned}


def _job(item: SpecItem, cells: Set[str], seconds: Mapping[str, float]) -> Job:
    arms = {cell.id for cell in item.cells} if isinstance(item, RelationItem) else set()
    spec = item.subject.spec
    compares_only = isinstance(item, RelationItem) and item.honest is None
    return Job(
        id=item.subject.id,
        needs=frozenset(arms & cells) if arms else _NOTHING,
        alone=measures_alone(spec),
        smoke="smoke" in spec.markers,
        related=spec.relation is not None,
        expected=0.0 if compares_only else seconds.get(item.subject.id),
    )
