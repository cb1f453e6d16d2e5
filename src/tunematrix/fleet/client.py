"""A driver's connection to a scheduler: tasks go out, what becomes of them comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from distributed import Client, Future
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.fleet.address import Address, probe
from tunematrix.fleet.carrying import carry
from tunematrix.fleet.certificates import Certificates
from tunematrix.fleet.offer import Offer
from tunematrix.fleet.settings import DEATHS, WITHOUT, security, settle_settings
from tunematrix.fleet.worker import OFFER

_SECONDS = 15
_FETCHING = 32
"""Threads that fetch results: some may wait for what was lost with its worker and is made again."""


@dataclass(frozen=True)
class FleetTask:
    """One task of Dask's: its key, the text that it is given, and what it needs of its worker."""

    key: str
    text: str
    resource: str


@dataclass(frozen=True)
class Unrunnable:
    """No worker can run a task any more; the text says why, and whether there is none at all."""

    reason: str
    lacks_worker: bool = False


@dataclass(frozen=True)
class Gone:
    """The scheduler has gone, and all tasks with it."""


Arrived = Callable[[str, bytes | Unrunnable | Gone], None]
"""Takes the key of a task, and what became of it."""


class Connection:
    """A connection to a scheduler, while that runs.

    Args:
        address: of the scheduler. certificates: of the fleet. arrived: called from other threads.

    Raises:
        NobodyThere: no scheduler answers. BadInput: what answers is none of this fleet.
    """

    def __init__(
        self, address: Address, certificates: Certificates | None, arrived: Arrived
    ) -> None:
        probe(address, certificates)
        settle_settings()
        self._arrived = arrived
        self._tasks: dict[str, Future] = {}
        self._fetching = ThreadPoolExecutor(_FETCHING, thread_name_prefix="fetching")
        self._closed = False
        try:
            self._client = Client(
                str(address),
                security=security(certificates),
                set_as_default=False,
                timeout=_SECONDS,
            )
        except (OSError, ValueError) as error:
            text = f"{address}: a scheduler answers, and can't be used: {error}"
            raise MachineProblem(f"{text}; see what it says on its own terminal") from error

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler has gone, which tasks that are under way may never tell."""
        return bool(self._client.status != "running")

    def offers(self) -> tuple[tuple[Offer, ...], tuple[str, ...]]:
        """Return what the workers offer that are there now, and the names of strange ones.

        Raises:
            OSError: the scheduler has gone.
        """
        told = self._client.sync(self._client.scheduler.identity, n_workers=-1)
        offers, strange = [], []
        for address, worker in told["workers"].items():
            try:
                offers.append(Offer.from_json(worker.get(OFFER)))
            except BadInput as error:
                strange.append(f"{worker.get('name', address)} {error}")
        return tuple(offers), tuple(strange)

    def send(self, tasks: Sequence[FleetTask]) -> None:
        """Hand tasks to the scheduler, several of one resource at a time."""
        for resource in dict.fromkeys(task.resource for task in tasks):
            some = [task for task in tasks if task.resource == resource]
            futures = self._client.map(
                carry,
                [task.text for task in some],
                key=[task.key for task in some],
                resources={resource: 1},
                pure=False,
                retries=0,
            )
            for task, future in zip(some, futures, strict=True):
                self._tasks[task.key] = future
                future.add_done_callback(self._done)

    def cancel(self) -> None:
        """Let go of all tasks: their cells are ended."""
        futures, self._tasks = list(self._tasks.values()), {}
        with suppress(Exception):
            self._client.cancel(futures, asynchronous=False)

    def close(self) -> None:
        """Leave the scheduler, which lets go of whatever was sent."""
        self._closed = True
        self._fetching.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):  # it may have gone long ago
            self._client.close(timeout=5)

    def _done(self, future: Future) -> None:
        if not self._closed:
            with suppress(RuntimeError):  # closed meanwhile
                self._fetching.submit(self._fetch, future)

    def _fetch(self, future: Future) -> None:
        """Fetch the result of a task that has ended, and let the scheduler forget it."""
        key = future.key
        if key not in self._tasks:
            return
        answer: bytes | Unrunnable | Gone
        try:
            answer = future.result()
        except (KilledWorker, NoWorkerError, NoValidWorkerError) as error:
            lacks = not isinstance(error, KilledWorker)
            answer = Unrunnable(_explained(error), lacks_worker=lacks)
        except Exception as error:  # noqa: BLE001 - whatever it is, the cell has to say so
            gone = future.cancelled() or self._client.status != "running"
            answer = Gone() if gone else Unrunnable(f"{type(error).__name__}: {error}")
        if self._tasks.pop(key, None) is not None:
            self._arrived(key, answer)


def _explained(error: Exception) -> str:
    if isinstance(error, KilledWorker):
        name = getattr(error.last_worker, "name", "")
        text = f"{DEATHS} workers died while they ran it, {name} last; it isn't tried again"
        return f"{text}: see what they said on their terminals, and how much memory they had left"
    text = f"no worker was left for it, and none came within {WITHOUT} s"
    return f"{text}; start one: tunematrix worker"
