"""Certificates of a fleet: made by one command, and copied to each of its machines."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import shown, state

FOLDER = "fleet-certificates"
AUTHORITY, MEMBER = "authority.pem", "member.pem"
DAYS = 365
_CLOCKS = timedelta(days=1)  # by how much the clocks of two machines may differ


@dataclass(frozen=True)
class Certificates:
    """The certificates of a fleet, all of whose members have the same.

    Attributes:
        folder: with `authority.pem`, whom members trust, and `member.pem`, by which they are known.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """Whoever has a certificate of this one's is a member."""
        return self.folder / AUTHORITY

    @property
    def member(self) -> Path:
        """The certificate and its private key: whoever has this file is a member."""
        return self.folder / MEMBER

    def context(self) -> ssl.SSLContext:
        """Return what a member knows and trusts, as it connects to others."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # machines have many names; the authority signs members only
        context.load_verify_locations(self.authority)
        context.load_cert_chain(self.member)
        return context


def default_folder(root: Path) -> Path:
    """Return where a project's certificates lie unless somebody says otherwise."""
    return state(root) / FOLDER


def read_certificates(folder: Path) -> Certificates:
    """Return the certificates in a folder, looked through.

    Raises:
        BadInput: they are missing, damaged, over, or can be read by others.
    """
    found = Certificates(folder)
    for path in (found.authority, found.member):
        if not path.is_file():
            advice = "make them once: tunematrix certificates; then copy the folder to each machine"
            text = f"there is no {shown(path)}, and only members of a fleet may speak to it"
            raise BadInput(f"{text}; {advice}, or name it with --certificates")
    if found.member.stat().st_mode & 0o077:
        text = f"{shown(found.member)}: other users can read this private key"
        raise BadInput(f"{text}; chmod 600 {shown(found.member)}")
    try:
        found.context()
    except (ssl.SSLError, OSError) as error:
        text = f"{shown(folder)}: can't be used as certificates: {error}"
        raise BadInput(f"{text}; copy the folder again, or make a new one") from error
    return found


def make_certificates(folder: Path, now: datetime | None = None) -> Certificates:
    """Make an authority, and one certificate that all members of a fleet share.

    The authority's private key isn't kept: nobody can make further members.

    Raises:
        BadInput: there are some, or the extra isn't installed.
        MachineProblem: they can't be written.
    """
    made = Certificates(folder)
    if made.authority.exists() or made.member.exists():
        text = f"{shown(folder)}: there are certificates already"
        raise BadInput(f"{text}; copy them to other machines, or remove them to make new ones")
    authority, member = _signed(now or datetime.now(UTC))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made.authority.write_bytes(authority)
        descriptor = os.open(made.member, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(member)
    except OSError as error:
        text = f"can't write certificates into {shown(folder)}: {error.strerror}"
        raise MachineProblem(f"{text}; name another folder") from error
    return made


def _signed(now: datetime) -> tuple[bytes, bytes]:
    """Return an authority's certificate, and a member's with its private key, as PEM."""
    try:
        from tunematrix.fleet.signing import signed
    except ImportError:
        text = "certificates are made with cryptography, which isn't installed"
        raise BadInput(f'{text}: python -m pip install "tunematrix[fleet]"') from None
    return signed(now - _CLOCKS, now + timedelta(days=DAYS))
