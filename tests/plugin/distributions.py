"""Small distributions for tests: built as wheels, and installed into a folder of their own."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

Points = Mapping[str, Mapping[str, str]]
"""Group of entry points → name → value."""
Install = Callable[[Mapping[str, str], Points], None]
"""Takes files and entry points."""


def install(folder: Path, name: str, files: Mapping[str, str], points: Points) -> Path:
    """Build a wheel of a distribution, version 1.0, and unpack it as installers do.

    Returns the folder that has to be on `sys.path`, which several distributions may share.
    """
    wheel = _build(folder, name, files, points)
    site = folder / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / f"{name}-1.0.dist-info" / "INSTALLER").write_text("tests\n", encoding="utf-8")
    return site


def path_with(site: str) -> str:
    """Return what PYTHONPATH has to be for a folder to be found first."""
    return os.pathsep.join([site, *filter(None, [os.environ.get("PYTHONPATH")])])


def _build(folder: Path, name: str, files: Mapping[str, str], points: Points) -> Path:
    info = f"{name}-1.0.dist-info"
    groups = (
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())])
        for group, entries in points.items()
    )
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n\n".join(groups) + "\n",
    }
    content = {**files, **metadata}
    record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return wheel
