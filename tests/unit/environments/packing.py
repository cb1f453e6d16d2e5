"""Wheels, virtualenvs and a tunematrix of few bytes, so that real uv needs no package index."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tunematrix.environments import uv
from tunematrix.errors import MachineProblem

# Builds an editable wheel without any library, which hatchling would have to be fetched for.
BACKEND = """
import pathlib, zipfile


def build_editable(folder, config_settings=None, metadata_directory=None):
    info = "tunematrix-0.1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, "tunematrix-0.1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("_tunematrix.pth", str(pathlib.Path.cwd() / "src"))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tunematrix\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "tunematrix-0.1.0-py3-none-any.whl"
"""  # noqa: E501


def has_uv() -> bool:
    """Whether uv can be asked at all."""
    try:
        return bool(uv.program())
    except MachineProblem:
        return False


def wheel(
    folder: Path, name: str, version: str, needs: Sequence[str] = (), text: str | None = None
) -> Path:
    """Write a wheel with one module, which is `text`, or else has its version in it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        module = f"__version__ = {version!r}\n" if text is None else text
        archive.writestr(f"{name}.py", module)
        archive.writestr(f"{info}/METADATA", "\n".join([*lines, ""]))
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return path


def virtualenv(folder: Path, *wheels: Path) -> Path:
    """Make a user's virtualenv that has some wheels; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    for path in wheels:
        zipfile.ZipFile(path).extractall(packages)
    return folder / "bin" / "python"


def checkout(folder: Path, *needs: str) -> Path:
    """Write a tunematrix that needs some distributions, and no index to be built; its package."""
    package = folder / "src" / "tunematrix"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (folder / "backend.py").write_text(BACKEND, encoding="utf-8")
    listed = ", ".join(f'"{need}"' for need in needs)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "tunematrix"\nversion = "0.1.0"\ndependencies = [{listed}]\n'
        '[project.optional-dependencies]\ntorch = ["torch>=2.13"]\n',
        encoding="utf-8",
    )
    return package
