"""The verb `worker`: a machine with an environment, offered to a scheduler while it runs."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tunematrix.fleet.address import Address, NobodyThere, probe
from tunematrix.fleet.carrying import AtWork, Performs
from tunematrix.fleet.certificates import Certificates
from tunematrix.fleet.offer import Offer
from tunematrix.fleet.settings import QuietWorker, security, settle_settings

OFFER = "tunematrix"
"""What a worker tells a scheduler its offer as."""
PATIENCE = 600.0
"""Seconds that a worker waits for a scheduler that has gone."""
_AGAIN = 1.0


def run_worker(
    address: Address,
    certificates: Certificates | None,
    offer: Offer,
    workplace: Performs,
    say: Callable[[str], None],
    patience: float = PATIENCE,
) -> None:
    """Run a worker until a signal ends it; where its scheduler goes away, wait for it to come back.

    Args:
        address: of the scheduler. certificates: of the fleet; None on the loopback alone.
        offer: what it tells of itself. workplace: what runs cells. say: takes lines.
        patience: seconds that it waits for a scheduler that has gone.

    Raises:
        BadInput: what answers is no scheduler of this fleet.
        NobodyThere: no scheduler answers, or it didn't come back.
    """
    probe(address, certificates)
    settle_settings()
    asyncio.run(_serve(address, certificates, offer, workplace, say, patience))


async def _serve(
    address: Address,
    certificates: Certificates | None,
    offer: Offer,
    workplace: Performs,
    say: Callable[[str], None],
    patience: float,
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    while not ended.is_set():
        with tempfile.TemporaryDirectory(prefix="tunematrix-worker-") as folder:
            worker = made(address, certificates, offer, workplace, folder)
            try:
                await worker
                say(f"at work for {address}: {offer}")
                await _first(ended.wait(), worker.finished())
            except (OSError, RuntimeError, ValueError) as error:  # it went as we came
                say(f"can't register at {address}: {error}")
            finally:
                with suppress(Exception):
                    await worker.close(timeout=10, reason="it was stopped")
        if not ended.is_set():
            say(f"the scheduler at {address} has gone, or let go of this worker; waiting for it")
            await _await_scheduler(address, certificates, ended, patience)


def made(
    address: Address,
    certificates: Certificates | None,
    offer: Offer,
    workplace: Performs,
    folder: str,
) -> QuietWorker:
    """Return a worker of Dask's, not yet started."""
    return QuietWorker(
        str(address),
        name=offer.name,
        nthreads=offer.places,
        resources={offer.resource: offer.places},
        security=security(certificates),
        plugins=[AtWork(workplace)],
        startup_information={OFFER: lambda _: offer.to_json()},
        local_directory=folder,
        memory_limit=0,
        dashboard=False,
    )


async def _first(*these: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(one) for one in these]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _await_scheduler(
    address: Address, certificates: Certificates | None, ended: asyncio.Event, patience: float
) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not ended.is_set():
        try:
            await asyncio.to_thread(probe, address, certificates)
        except NobodyThere:
            if loop.time() > deadline:
                raise
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _AGAIN)
        else:
            return
