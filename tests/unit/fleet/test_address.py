"""What may stand as an address, and what may answer there."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.fleet import address as addresses
from tunematrix.fleet.address import NobodyThere, certificates_for, parse_address, probe
from tunematrix.fleet.certificates import Certificates, make_certificates, read_certificates

Answer = Callable[[socket.socket], None]
DASK = (90).to_bytes(8, "little") + b"\x01" * 90


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of a fleet."""
    return make_certificates(tmp_path_factory.mktemp("ours") / "fleet")


@contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """A server that answers each connection; yields its port."""
    server = socket.create_server(("127.0.0.1", 0))
    served = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(connection)
            served.wait(5)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=serve, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        served.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def over_tls(certificates: Certificates, says: bytes = DASK) -> Answer:
    """Answer as a member of a fleet does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.member)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.sendall(says)
            encrypted.recv(1)

    return answer


@pytest.mark.parametrize(
    "text",
    ["me:s3cret@h:1", "s3cret@h:1", "tls://me:s3cret@h", "x://s3cret@h", "tls://me:s3cret/p@h"],
)
def test_a_password_is_not_repeated(text: str) -> None:
    """Schedulers know none, and a log would keep it."""
    with pytest.raises(BadInput, match="…@h") as caught:
        parse_address(text)
    assert "s3cret" not in str(caught.value)


def refused(port: int, certificates: Certificates | None, scheme: str = "tls") -> str:
    """What is said of what answers at a port."""
    with pytest.raises(BadInput) as told:
        probe(parse_address(f"{scheme}://127.0.0.1:{port}"), certificates)
    return str(told.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.1.2.3", "tls://10.1.2.3:8786"),
        ("gpu-box:9000", "tls://gpu-box:9000"),
        ("tls://[::1]:9000", "tls://[::1]:9000"),
        ("tcp://localhost:9000", "tcp://localhost:9000"),
        ("tcp://127.0.0.9:9000/", "tcp://127.0.0.9:9000"),
        ("tcp://[::1]:9000", "tcp://[::1]:9000"),
    ],
)
def test_addresses(text: str, meant: str) -> None:
    """Without a scheme it is tls, without a port Dask's own."""
    assert str(parse_address(text)) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://10.1.2.3:8786", "speaks tls, and not http"),
        ("10.1.2.3:0", "no address"),
        ("10.1.2.3:99999", "no address"),
        ("", "no address"),
        ("a b", "no address"),
        ("tcp://10.1.2.3:8786", "could run code here without certificates"),
        ("tcp://gpu-box", "could run code here without certificates"),
        ("tcp://0.0.0.0:8786", "could run code here without certificates"),
    ],
)
def test_no_addresses(text: str, why: str) -> None:
    """Without certificates there is only this machine."""
    with pytest.raises(BadInput, match=why):
        parse_address(text)


def test_whose_answer_is_right(ours: Certificates) -> None:
    """A member that begins as Dask does, over TLS, or plainly on the loopback."""
    with listening(over_tls(ours)) as port:
        probe(parse_address(f"127.0.0.1:{port}"), ours)
    with listening(lambda connection: connection.sendall(DASK)) as port:
        probe(parse_address(f"tcp://127.0.0.1:{port}"), None)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no scheduler"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no scheduler"),
        (b"", "no scheduler"),
    ],
)
def test_another_protocol(
    says: bytes, why: str, ours: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it speaks TLS or not, and also if it says nothing."""
    monkeypatch.setattr(addresses, "_SECONDS", 0.5)
    with listening(lambda connection: connection.sendall(says)) as port:
        assert why in refused(port, None, "tcp")
        if says:
            assert why in refused(port, ours)
    with listening(over_tls(ours, says)) as port:
        assert why in refused(port, ours)


def test_nobody(ours: Certificates) -> None:
    """A closed port is told from a wrong one: it may open yet."""
    with listening(lambda connection: None) as port:
        pass
    with pytest.raises(NobodyThere, match=r"tunematrix scheduler --host 127\.0\.0\.1"):
        probe(parse_address(f"127.0.0.1:{port}"), ours)


def test_certificates_of_others(ours: Certificates, tmp_path: Path) -> None:
    """Of another fleet, whoever looks first; and those that a clock rules out."""
    theirs = make_certificates(tmp_path / "theirs")
    with listening(over_tls(theirs)) as port:
        assert "is of another fleet" in refused(port, ours)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "authority.pem").write_bytes(ours.authority.read_bytes())
    (mixed / "member.pem").write_bytes(theirs.member.read_bytes())
    (mixed / "member.pem").chmod(0o600)
    with listening(over_tls(ours)) as port:
        assert "refuses our certificate" in refused(port, read_certificates(mixed))


@pytest.mark.parametrize(("days", "why"), [(3, "not valid yet"), (-400, "no longer valid")])
def test_clocks(days: int, why: str, tmp_path: Path) -> None:
    """A clock that is off by days is named; one that is off by hours changes nothing."""
    then = datetime.now(UTC) + timedelta(days=days)
    made = make_certificates(tmp_path / "made", now=then)
    with listening(over_tls(made)) as port:
        assert f"{why} by the clock of this machine" in refused(port, made)


@pytest.mark.parametrize("hours", [-23, -5, 0, 5, 23])
def test_hours(hours: int, tmp_path: Path) -> None:
    """Made on a machine whose clock is hours before or behind, they are good here."""
    then = datetime.now(UTC) + timedelta(hours=hours)
    made = make_certificates(tmp_path / "made", now=then)
    with listening(over_tls(made)) as port:
        probe(parse_address(f"127.0.0.1:{port}"), made)


def test_folders(ours: Certificates, tmp_path: Path) -> None:
    """What is missing, open to others, damaged or there already is said with what to do."""
    tls = parse_address("10.1.2.3")
    with pytest.raises(BadInput, match="tunematrix certificates"):
        certificates_for(tls, tmp_path / "none", tmp_path)
    assert certificates_for(parse_address("tcp://127.0.0.1"), None, tmp_path) is None
    assert certificates_for(tls, ours.folder, tmp_path) == ours
    with pytest.raises(BadInput, match="there are certificates already"):
        make_certificates(ours.folder)
    made = make_certificates(tmp_path / "made")
    made.member.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        read_certificates(made.folder)
    made.member.chmod(0o600)
    made.member.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    with pytest.raises(BadInput, match="can't be used as certificates"):
        read_certificates(made.folder)
