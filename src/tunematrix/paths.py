"""Where files lie: the shipped configs, and the folder of the project that is worked in."""

from __future__ import annotations

import fcntl
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunematrix.errors import BadInput, MachineProblem

STATE = "TUNEMATRIX_STATE"
"""Variable with the folder that a run keeps everything in."""
PACKAGE = Path(__file__).resolve().parent


def shipped_configs() -> Path:
    """Return the folder with the config groups that come with tunematrix.

    An installed wheel carries it inside the package; a checkout has it beside `src/`.
    """
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "configs"


def project_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` with a pyproject.toml, else `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return start


def state(root: Path) -> Path:
    """Return the folder in which a project's records, runs and caches are kept.

    Runs whose records must not mix with the project's own are given another, by `STATE`.
    """
    told = os.environ.get(STATE)
    return Path(told) if told else root / ".tunematrix"


def made(folder: Path) -> Path:
    """Make a folder that a run is written to, and return it.

    Raises:
        MachineProblem: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"can't write to {shown(folder)}: {error.strerror}"
        raise MachineProblem(f"{text}; remove what is in the way, or free space") from error
    return folder


def adhoc_specs(root: Path) -> Path:
    """Return the folder for specs of cells that were asked for on the command line."""
    return state(root) / "adhoc"


def pyproject(root: Path) -> dict[str, Any]:
    """Return what the pyproject.toml of a project says; nothing where there is none.

    Raises:
        BadInput: it can't be read.
    """
    file = root / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{shown(file)}: can't be read: {error}; correct it") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock, and hold it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes, even by a killed process
        yield


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the working directory where it is below."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
