"""What of Dask's own settings a fleet changes, the same for scheduler, workers and drivers."""

from __future__ import annotations

import logging
import ssl
import warnings

from tunematrix.errors import MachineProblem
from tunematrix.fleet.certificates import Certificates

try:
    import dask
    from distributed import Scheduler, Security, Worker
    from distributed.versions import VersionMismatchWarning
except ImportError as _error:
    _TEXT = f"a fleet needs Dask distributed, which can't be imported here ({_error})"
    raise MachineProblem(f'{_TEXT}: python -m pip install "tunematrix[fleet]"') from _error

DEATHS = 3
"""How many workers may die under a cell before it is not tried again."""
SILENCE = 60
"""Seconds without a sign of life after which a worker is given up."""
WITHOUT = 120
"""Seconds that a cell waits for a worker of its environment, where the last one has left."""

_TALKATIVE = ("asyncio", "distributed", "tornado")


def settle_settings() -> None:
    """Set what a fleet needs, whatever Dask's own files and variables say."""
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": DEATHS - 1,
            "distributed.scheduler.worker-ttl": f"{SILENCE}s",
            "distributed.scheduler.no-workers-timeout": f"{WITHOUT}s",
            "distributed.scheduler.http.routes": [],
            "distributed.scheduler.preload": [],
            "distributed.worker.http.routes": [],
            "distributed.worker.preload": [],
            "distributed.client.preload": [],
            "distributed.comm.timeouts.tcp": "30s",
            # Fifty looks a second at its own loop, and a hundred at what each thread does, are for
            # those who develop Dask.
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.tick.limit": "60s",
            "distributed.worker.profile.enabled": False,
            "distributed.admin.low-level-log-length": 20,  # of messages, which hold whole cells
            "distributed.admin.system-monitor.interval": "60s",
        }
    )
    # Pythons and libraries may differ, since what travels is plain.
    warnings.simplefilter("ignore", VersionMismatchWarning)
    # What it would say is either told in our words, or of no use to who runs cells.
    for name in ("asyncio", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def security(certificates: Certificates | None) -> Security:
    """Return what Dask encrypts by, and whom it accepts; without certificates, nothing and all."""
    if certificates is None:
        return Security(require_encryption=False)
    authority, member = str(certificates.authority), str(certificates.member)
    return Security(
        require_encryption=True,
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        tls_ca_file=authority,
        tls_client_cert=member,
        tls_scheduler_cert=member,
        tls_worker_cert=member,
    )


class QuietScheduler(Scheduler):  # type: ignore[misc]
    """Dask's scheduler, without the web server that anybody could ask."""

    def start_http_server(self, *arguments: object, **more: object) -> None:
        """Start none."""


class QuietWorker(Worker):  # type: ignore[misc]
    """Dask's worker, without the web server that anybody could ask."""

    def start_http_server(self, *arguments: object, **more: object) -> None:
        """Start none."""
