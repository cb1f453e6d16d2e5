"""The one function that Dask calls on workers, by its name: text goes in, bytes come out."""

from __future__ import annotations

from typing import Protocol

from distributed import Status, Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from tunematrix.fleet.travel import Errand
from tunematrix.fleet.workplace import Unwanted, Wanted

NAME = "tunematrix"
"""What a worker of Dask's knows our plug-in by."""
_UNDER_WAY = ("executing", "long-running")


class Performs(Protocol):
    """Whoever runs cells: `Workplace`, or what a simulation has in its place."""

    def perform(self, errand: Errand, wanted: Wanted) -> bytes:
        """Run a cell, and return its record with its evidence, packed."""


class AtWork(WorkerPlugin):  # type: ignore[misc]
    """Keeps a workplace where `carry` finds it."""

    name = NAME

    def __init__(self, workplace: Performs) -> None:
        self.workplace = workplace

    def setup(self, worker: Worker) -> None:
        """Do nothing: the workplace is open already."""

    def teardown(self, worker: Worker) -> None:
        """Do nothing: who has opened it closes it."""


def carry(text: str) -> bytes:
    """Run the cell that a text tells of; nothing comes back where nobody waits for it any more."""
    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        # A driver that leaves, or is killed, lets go of its tasks, and so does one that is stopped.
        task = worker.state.tasks.get(key)
        is_running = worker.status == Status.running
        return is_running and task is not None and task.state in _UNDER_WAY

    plugin: AtWork = worker.plugins[NAME]
    try:
        return plugin.workplace.perform(Errand.from_text(text), is_wanted)
    except Unwanted:
        return b""
