"""Ports of the loopback device: one that is free, and who holds one that isn't."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import psutil

from tunematrix.errors import MachineProblem

HOST = "127.0.0.1"
# Below those that systems give to outgoing connections: one could take a port before the server.
_CHOICE = range(20_000, 32_000)
_TRIES = 100
# Its own, as a step has seeded the shared one: two steps at once would choose the same port.
_DRAWS = random.SystemRandom()


def chosen(port: int) -> int:
    """Return the port to serve at.

    Args:
        port: the one that is asked for; 0 for any that is free.

    Raises:
        MachineProblem: it is taken, or none is free.
    """
    if port:
        if not is_free(port):
            raise taken(port)
        return port
    for _ in range(_TRIES):
        if is_free(found := _DRAWS.choice(_CHOICE)):
            return found
    text = f"no free port was found on {HOST} in {_TRIES} tries"
    raise MachineProblem(f"{text}; likely this machine forbids to listen; set port in the config")


def is_free(port: int) -> bool:
    """Whether a server could listen there now; what an ended server leaves is no hindrance."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def taken(port: int) -> MachineProblem:
    """Say that a port is taken, and by whom if the system tells."""
    whom = _listener(port)
    text = (
        f"port {port} of {HOST} is taken by {whom}; end that"
        if whom
        else f"port {port} of {HOST} is taken, or may not be used by this user"
    )
    return MachineProblem(f"{text}; choose another, or write port: 0 for any that is free")


def _listener(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status != psutil.CONN_LISTEN or not address or not connection.pid:
                continue
            if address.port == port:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"{command[:100]} (pid {connection.pid})"
    return ""


def listens(pid: int, port: int) -> bool:
    """Whether a process, or one below it, listens at a port; yes where the system doesn't tell."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        found = [one for each in family for one in each.net_connections("tcp")]
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError):  # it has ended meanwhile
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
