"""An overlay → what of its files isn't as the installer left it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tunematrix.environments.locks import normalized


def damage(pins: Mapping[str, str], folder: Path) -> str:
    """Say what an overlay lacks of its pins: a distribution, a file, or a file's whole length.

    Without this, Python would find the rest in the environment beneath, and a run would be told of
    releases that it never saw.

    Args:
        pins: distribution to its one version. folder: the overlay.

    Returns:
        A sentence about the first that is found; empty where all is there.
    """
    there = {
        normalized(one.metadata["Name"] or ""): one for one in distributions(path=[str(folder)])
    }
    for name, version in pins.items():
        found = there.get(normalized(name))
        if found is None:
            return f"{name} isn't there"
        if not _is_of(found.version, version):
            return f"{name} is {found.version} in place of {version}"
        if found.files is None:
            return f"the list of the files of {name} isn't there"
    lengths = _lengths(there.values())
    for file, known in lengths.items():
        length = file.stat().st_size if file.is_file() else None
        if length not in known:
            is_there = "isn't there" if length is None else "is of another length"
            return f"{file.relative_to(folder)} {is_there}"
    return ""


def _lengths(there: Iterable[Distribution]) -> dict[Path, set[int]]:
    """Return the bytes of each file; of one that several distributions have, of any of them."""
    found = defaultdict[Path, set[int]](set)
    for distribution in there:
        for file in distribution.files or ():
            # What lies elsewhere, as programs may, is on no path of Python; RECORD is the list.
            if file.size is not None and ".." not in file.parts and file.name != "RECORD":
                found[Path(str(file.locate()))].add(file.size)
    return found


def _is_of(found: str, wanted: str) -> bool:
    """Whether a version is the wanted one; a build of it, such as 2.13.0+cpu, is."""
    try:
        have, want = Version(found), Version(wanted)
    except InvalidVersion:
        return found == wanted
    return have == want or (not want.local and have.public == want.public)
