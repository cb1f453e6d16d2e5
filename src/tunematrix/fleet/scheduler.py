"""The verb `scheduler`: Dask's own, which workers and drivers of a fleet meet at."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Callable

from tunematrix.errors import MachineProblem
from tunematrix.fleet.address import refuse_open
from tunematrix.fleet.certificates import Certificates
from tunematrix.fleet.settings import QuietScheduler, security, settle_settings

OPEN = (
    "without certificates: every user of this machine can run code as this one; "
    "other machines can't reach it"
)


def run_scheduler(
    host: str, port: int, certificates: Certificates | None, say: Callable[[str], None]
) -> None:
    """Run a scheduler until a signal ends it.

    Args:
        host: where it listens; empty for all of this machine's addresses.
        port: of that. certificates: of the fleet; None on the loopback alone. say: takes lines.

    Raises:
        BadInput: other machines could reach it, and there are no certificates.
        MachineProblem: it can't listen there.
    """
    if certificates is None:
        refuse_open(host)
    settle_settings()
    try:
        asyncio.run(_serve(host, port, certificates, say))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            text = f"can't listen at {host or '*'}:{port}: {error.strerror}"
            raise MachineProblem(f"{text}; name another --host or --port") from error
        raise


async def _serve(
    host: str, port: int, certificates: Certificates | None, say: Callable[[str], None]
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with QuietScheduler(
        host=host or None,
        port=port,
        protocol="tcp" if certificates is None else "tls",
        security=security(certificates),
        dashboard=False,
    ) as scheduler:
        say(f"scheduler at {scheduler.address}")
        say(OPEN if certificates is None else f"for members with {certificates.folder}")
        await ended.wait()
