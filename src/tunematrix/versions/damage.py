"""An overlay → what of its files isn't as the installer left it."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackagePath
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tunematrix.environments.inherited import distributions_in
from tunematrix.environments.locks import normalized

MARK = ".tunematrix-whole"
"""A file in an overlay: when all that lies beside it was seen to be as it should."""
CERTIFICATES = "cacert.pem"
"""Certifi's authorities, to which many a company's machine adds its own in every virtualenv."""


def damage(pins: Mapping[str, str], folder: Path) -> str:
    """Say what an overlay lacks of its pins: a distribution, a file, or what is in a file.

    Without this, Python would find the rest in the environment beneath, and a run would be told of
    releases that it never saw. Files are read that were changed since they were read last.

    Args:
        pins: distribution to its one version. folder: the overlay.

    Returns:
        A sentence about the first that is found; empty where all is there.
    """
    mark = folder / MARK
    since = mark.stat().st_mtime_ns if mark.exists() else 0
    installed = distributions_in([str(folder)])
    there = {normalized(one.metadata["Name"] or ""): one for one in installed}
    for name, version in pins.items():
        found = there.get(normalized(name))
        if found is None:
            return f"{name} isn't there"
        if not _is_of(found.version, version):
            return f"{name} is {found.version} in place of {version}"
        if found.files is None:
            return f"the list of the files of {name} isn't there"
    for file, known in _listed(there.values()).items():
        if problem := _problem(file, known, since):
            return f"{file.relative_to(folder)} {problem}"
    mark.touch()
    return ""


def _problem(file: Path, known: Iterable[PackagePath], since: int) -> str:
    """Say what is wrong with a file; `known` is what each distribution that has it says of it."""
    try:
        status = file.stat()
    except OSError:
        return "isn't there"
    if file.name == CERTIFICATES:
        return ""
    of_length = [one for one in known if one.size == status.st_size]
    if not of_length:
        return "is of another length"
    # Not when it was written, which can be set: when anything of it changed, links included.
    if status.st_ctime_ns < since or any(_matches(file, one) for one in of_length):
        return ""
    return "isn't as its package says"


def _matches(file: Path, told: PackagePath) -> bool:
    """Whether a file's content is what a list of files says, as far as that says anything."""
    if told.hash is None or told.hash.mode not in hashlib.algorithms_guaranteed:
        return True
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, told.hash.mode).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode() == told.hash.value.rstrip("=")


def _listed(there: Iterable[Distribution]) -> dict[Path, list[PackagePath]]:
    """Return what the lists of distributions say of each file; several may have the same one."""
    found = defaultdict[Path, list[PackagePath]](list)
    for distribution in there:
        for file in distribution.files or ():
            # What lies elsewhere, as programs may, is on no path of Python; RECORD is the list;
            # bytecode is written anew by whoever runs it.
            is_elsewhere = ".." in file.parts or file.name == "RECORD" or file.suffix == ".pyc"
            if file.size is not None and not is_elsewhere:
                found[Path(str(file.locate()))].append(file)
    return found


def _is_of(found: str, wanted: str) -> bool:
    """Whether a version is the wanted one; a build of it, such as 2.13.0+cpu, is."""
    try:
        have, want = Version(found), Version(wanted)
    except InvalidVersion:
        return found == wanted
    return have == want or (not want.local and have.public == want.public)
