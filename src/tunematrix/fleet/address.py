"""Where a scheduler is, and whether what answers there is one that may be spoken to."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.fleet.certificates import Certificates, default_folder, read_certificates

PORT = 8786
"""Dask's own."""
_SECONDS = 10.0
_MOST_BYTES = 100_000
"""Of Dask's first message, whose length comes first; other protocols begin with text."""
_EXAMPLE = "write HOST:PORT, such as 192.168.1.5:8786"


class NobodyThere(MachineProblem):
    """Nothing answers at an address, for now at least."""


@dataclass(frozen=True)
class Address:
    """Where a scheduler is.

    Attributes:
        scheme: "tls" between members with certificates; "tcp", without any, on this machine alone.
        host: name or number. port: the port.
    """

    scheme: Literal["tls", "tcp"]
    host: str
    port: int

    def __str__(self) -> str:
        """Return it as Dask takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address in a text; without a scheme it is tls, without a port Dask's own.

    Raises:
        BadInput: it is none; or tcp, which has no certificates, leads to another machine.
    """
    scheme, found, rest = text.rpartition("://")
    # There is no user and no password; whoever writes one shall not read it in a log.
    told = f"{scheme}{found}…@{rest.rpartition('@')[2]}" if "@" in rest else text
    if found and scheme not in ("tls", "tcp"):
        raise BadInput(f"{told}: a scheduler speaks tls, and not {scheme}; {_EXAMPLE}")
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/@\[\]\s]+)(?::(\d{1,5}))?/?", rest)
    port = PORT if match is None or match[2] is None else int(match[2])
    if match is None or not 0 < port < 2**16:
        raise BadInput(f"{told}: is no address of a scheduler; {_EXAMPLE}")
    host = match[1].strip("[]")
    if scheme == "tcp":
        refuse_open(host)
        return Address("tcp", host, port)
    return Address("tls", host, port)


def certificates_for(address: Address, folder: Path | None, root: Path) -> Certificates | None:
    """Return the certificates by which a project's members speak at an address; None for tcp.

    Raises:
        BadInput: there are none, or they can't be used.
    """
    if address.scheme == "tcp":
        return None
    return read_certificates(folder or default_folder(root))


def refuse_open(host: str) -> None:
    """Refuse to do without certificates where other machines can reach it.

    Raises:
        BadInput: the host isn't this machine's own loopback.
    """
    if not is_loopback(host):
        text = f"{host} can be reached from other machines, and whoever does so could run code here"
        advice = "use certificates (tunematrix certificates), or 127.0.0.1 on this machine alone"
        raise BadInput(f"{text} without certificates; {advice}")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def probe(address: Address, certificates: Certificates | None) -> None:
    """See that a scheduler of Dask's answers, which knows the same authority as we.

    It is asked nothing, and nothing that it says is unpickled.

    Raises:
        NobodyThere: nothing answers.
        BadInput: something else does, or it is of another fleet.
    """
    try:
        with socket.create_connection((address.host, address.port), _SECONDS) as plain:
            if certificates is None:
                _refuse_strange(plain, address)
                return
            with certificates.context().wrap_socket(plain) as encrypted:
                _refuse_strange(encrypted, address)
    except (ssl.SSLEOFError, ConnectionResetError) as error:
        raise _hung_up(address) from error
    except ssl.SSLError as error:
        raise _explained(error, address) from error
    except TimeoutError as error:
        text = f"{address}: nothing answers within {_SECONDS:.0f} s"
        advice = "look whether the scheduler runs there, and whether a firewall keeps its port shut"
        raise NobodyThere(f"{text}; {advice}") from error
    except socket.gaierror as error:
        raise BadInput(f"{address}: there is no machine of that name; {_EXAMPLE}") from error
    except OSError as error:
        text = f"{address}: can't be reached: {error.strerror or error}"
        advice = f"start it there: tunematrix scheduler --host {address.host} --port {address.port}"
        raise NobodyThere(f"{text}; {advice}") from error


def _refuse_strange(connection: socket.socket, address: Address) -> None:
    """Refuse what doesn't begin as Dask does: with the length of a short message, in 8 bytes."""
    connection.settimeout(_SECONDS)
    try:
        begun = connection.recv(8)
    except TimeoutError as error:
        raise _no_scheduler(address, "it says nothing") from error
    if not begun:
        raise _hung_up(address)
    if len(begun) < 8 or not 0 < int.from_bytes(begun, "little") < _MOST_BYTES:
        shown = begun.decode("ascii", "backslashreplace")
        raise _no_scheduler(address, f"it says {shown!r}")


def _hung_up(address: Address) -> NobodyThere:
    text = f"{address}: something answers and hangs up: a scheduler that is ending, or none at all"
    return NobodyThere(f"{text}; look what runs there, and start it again")


def _no_scheduler(address: Address, how: str) -> BadInput:
    text = f"{address}: something answers that is no scheduler of a fleet: {how}"
    other = "tls" if address.scheme == "tcp" else "tcp"
    return BadInput(f"{text}; correct the address, and see whether it speaks {other}")


def _explained(error: ssl.SSLError, address: Address) -> BadInput:
    """Say what a failed handshake means."""
    again = "copy the folder of certificates from the scheduler's machine"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        if "not yet valid" in why or "expired" in why:
            text = f"{address}: its certificate is {_when(why)} by the clock of this machine"
            return BadInput(f"{text}; set the clock, or make new certificates")
        return BadInput(f"{address}: is of another fleet ({why}); {again}")
    alert = (error.reason or str(error)).lower().replace("_", " ")
    if "certificate expired" in alert:
        text = f"{address}: refuses our certificate, which has expired by its clock"
        return BadInput(f"{text}; set the clock there, or make new certificates")
    if "unknown ca" in alert or "certificate" in alert or "decrypt error" in alert:
        return BadInput(f"{address}: refuses our certificate ({alert}): another fleet's; {again}")
    return _no_scheduler(address, f"it doesn't speak TLS 1.3 ({alert})")


def _when(why: str) -> str:
    return "not valid yet" if "not yet" in why else "no longer valid"
