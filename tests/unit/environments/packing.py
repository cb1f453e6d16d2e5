"""Wheels, virtualenvs and a tunematrix of few bytes, so that real uv needs no package index."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.environments import uv
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import YOURS, Environment
from tunematrix.environments.yours import Ready, Yours, prepare
from tunematrix.errors import MachineProblem

ROW = Environment("cpu-yours", "", ("cpu",), variant=YOURS)
NEEDS = ("alpha>=1", "pytest>=8")
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


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = build_editable(folder)
    with zipfile.ZipFile(pathlib.Path(folder, name)) as editable:
        kept = {one: editable.read(one) for one in editable.namelist() if not one.endswith(".pth")}
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for file in pathlib.Path("src/tunematrix").glob("*.py"):
            wheel.write(file, f"tunematrix/{file.name}")
        for one, data in kept.items():
            wheel.writestr(one, data)
    return name
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
        digest = base64.urlsafe_b64encode(hashlib.sha256(module.encode()).digest())
        told = f"sha256={digest.rstrip(b'=').decode()},{len(module.encode())}"
        archive.writestr(f"{info}/METADATA", "\n".join([*lines, ""]))
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", f"{name}.py,{told}\n{info}/RECORD,,\n")
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


@dataclass
class User:
    """Somebody with a virtualenv, and a folder of wheels in place of an index.

    Attributes:
        folder: all of it. said: what was said. warned: warnings.
    """

    folder: Path
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    def wheel(self, name: str, version: str, *needs: str) -> Path:
        """Put a wheel into the index."""
        return wheel(self.folder / "wheels", name, version, needs)

    def python(self, *wheels: tuple[str, str]) -> Path:
        """Make the virtualenv that the user trains with; return its Python."""
        packed = [wheel(self.folder / "own", *one) for one in wheels]
        return virtualenv(self.folder / "venv", *packed)

    def order(self, python: Path, needs: Sequence[str] = NEEDS, lock: Path | None = None) -> Yours:
        """Order a run by a tunematrix that needs something."""
        root = self.folder / "checkout"
        known = root.exists()
        package = root / "src" / "tunematrix" if known else checkout(root, *needs)
        return Yours(ROW, self.folder / "state", python, lock, Origin(package))

    def prepare(self, order: Yours) -> Ready:
        """Prepare it, and listen."""
        return prepare(order, self.said.append, self.warned.append)

    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file of the virtualenv: its size, when it was written, and what is in it."""
        paths = [path for path in (self.folder / "venv").rglob("*") if not path.is_dir()]
        stats = {str(path): path.lstat() for path in paths}
        return {p: (s.st_size, s.st_mtime_ns, Path(p).read_bytes()) for p, s in stats.items()}
