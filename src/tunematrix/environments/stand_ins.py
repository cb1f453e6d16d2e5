"""Packages that are installed somewhere → empty wheels of their versions, for a resolver to see.

A resolver asks an index for what is already there: a version that a vendor built, or was yanked, is
on none. So what is there stands beside the index, and can't be taken for something else.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tunematrix.paths import made

MARK = "yours"
"""What the version of a stand-in ends with, as in 2.13.0+cpu.yours; no index has one."""


def write(have: Mapping[str, str], folder: Path) -> tuple[Path, list[str]]:
    """Write a stand-in for each package; return their folder, and the pins that choose them.

    One needs nothing: whether a set is sound in itself isn't asked. A version that isn't one by
    the standard, as conda has some, gets none.

    Args:
        have: name → version. folder: is made.
    """
    made(folder)
    pins = []
    for name, text in have.items():
        try:
            version = Version(text)
        except InvalidVersion:
            continue
        local = f"{version.local}.{MARK}" if version.local else MARK
        marked = f"{version.public}+{local}"
        _wheel(folder, name, marked)
        pins.append(f"{name}=={marked}")
    return folder, pins


def limits(pins: Sequence[str], folder: Path) -> tuple[str, str]:
    """Return uv's options that choose stand-ins, but never to build something with them.

    Args:
        pins: what `write` returned. folder: for files of constraints.
    """
    chosen, built = folder / "constraints.txt", folder / "build-constraints.txt"
    chosen.write_text("\n".join(pins), encoding="utf-8")
    lines = [pin.replace("==", "!=") for pin in pins if pin.endswith(MARK)]
    built.write_text("\n".join(lines), encoding="utf-8")
    return f"--constraint={chosen}", f"--build-constraint={built}"


def _wheel(folder: Path, name: str, version: str) -> None:
    escaped = name.replace("-", "_")
    info = f"{escaped}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{escaped}-{version}-py3-none-any.whl", "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
