"""What is installed in the virtualenv of an environment: tunematrix, the project, and more."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunematrix.environments import locks
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import Environment
from tunematrix.paths import pyproject


def contents(
    root: Path, origin: Origin, rows: Sequence[Environment], cache: Path
) -> tuple[str, ...]:
    """Return what an installer is told to install for some environments.

    Args:
        root: the project's folder, in which the installer runs.
        origin: which tunematrix.
        rows: the environments whose libraries are wanted.
        cache: a folder for a wheel of tunematrix.
    """
    extras = _each(extra for row in rows for extra in row.extras)
    found = [*origin.arguments(extras, cache)]
    if any(row.variant == "lowest" for row in rows) and origin.checkout is None:
        found += origin.requirements(extras)  # the lowest are taken of what is asked for directly
    found += project_arguments(root, origin, _each(e for row in rows for e in row.project_extras))
    for package in _each(package for row in rows for package in row.packages):
        # Beside requirements there may be options, such as -r requirements/dev.txt.
        found += shlex.split(package) if package.startswith("-") else [package]
    return tuple(found)


def project_arguments(root: Path, origin: Origin, extras: Sequence[str]) -> list[str]:
    """Return what installs the project itself: the project, or else what it depends on."""
    if origin.checkout == root:
        return []
    if is_installable(root):
        place = "." if root == Path.cwd() else str(root)
        return ["-e", place + (f"[{','.join(extras)}]" if extras else "")]
    return locks.requirements(root, extras)


def is_installable(root: Path) -> bool:
    """Whether a project can be installed: it says how it is built, and denies it nowhere."""
    project = pyproject(root)
    if project.get("tool", {}).get("uv", {}).get("package") is False:
        return False
    return "build-system" in project or (root / "setup.py").is_file()


def _each(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
