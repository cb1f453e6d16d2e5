"""pyproject.toml and constraints/*.in → a digest that ties a lock to what it was compiled from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tunematrix.errors import BadInput
from tunematrix.paths import pyproject, shown, tool_table


@dataclass(frozen=True)
class HeldBack:
    """A requirement kept behind its newest release in every lock.

    Attributes:
        requirement: such as "torch==2.13.0". reason: why. link: where the reason can be checked.
    """

    requirement: str
    reason: str
    link: str


def held_back(root: Path) -> list[HeldBack]:
    """Return what a project holds back in [[tool.tunematrix.held_back]].

    Raises:
        BadInput: an entry lacks its requirement, its reason or its link, or has more.
    """
    entries = tool_table(root, "tunematrix").get("held_back", [])
    wanted = {field.name for field in fields(HeldBack)}
    for entry in entries:
        if set(entry) != wanted:
            file, keys = shown(root / "pyproject.toml"), ", ".join(sorted(wanted))
            text = f"{file}: tool.tunematrix.held_back: {entry!r} must have exactly {keys}"
            raise BadInput(f"{text}; write all three, so that the pin can go when its reason has")
    return [HeldBack(**entry) for entry in entries]


def requirements(root: Path, extras: Sequence[str]) -> list[str]:
    """Return what a project and some of its extras require; its own extras are followed."""
    project: dict[str, Any] = pyproject(root).get("project", {})
    optional: dict[str, list[str]] = project.get("optional-dependencies", {})
    found: dict[str, None] = dict.fromkeys(project.get("dependencies", []))
    waiting = list(extras)
    for extra in waiting:  # grows while it is walked
        for requirement in optional.get(extra, []):
            if own := re.fullmatch(rf"{project.get('name')}\[(.+)\]", requirement):
                names = [name.strip() for name in own[1].split(",")]
                waiting += [name for name in names if name not in waiting]
            else:
                found[requirement] = None
    return list(found)


def source(lock: Path) -> Path:
    """Return the file of hand-made pins that a lock is compiled from."""
    return lock.with_suffix(".in")


def seal(root: Path, lock: Path, extras: Sequence[str]) -> str:
    """Return what a lock's header says of all that the lock is compiled from: a digest."""
    python = pyproject(root).get("project", {}).get("requires-python")
    behind = [entry.requirement for entry in held_back(root)]
    inputs = [python, sorted(requirements(root, extras)), behind, list(_lines(source(lock)))]
    return f"(inputs {hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]})"


def mismatch(root: Path, lock: Path, extras: Sequence[str]) -> str | None:
    """Return why a lock can't be used, None where it was compiled from what there is now."""
    if not lock.is_file():
        return f"{shown(lock)} isn't there; run nox -s lock"
    if seal(root, lock, extras) in lock.read_text(encoding="utf-8"):
        return None
    return (
        f"{shown(lock)} was compiled from other requirements than pyproject.toml and "
        f"{shown(source(lock))} now have; run nox -s lock"
    )


def resolving(root: Path, lock: str, extras: Sequence[str], scratch: Path) -> list[str]:
    """Return uv's command that resolves against PyPI what a lock is made of.

    Args:
        root: the project's folder, in which the command is run.
        lock: the lock, relative to it.
        extras: those that it is for.
        scratch: a folder for a file with what is held back.
    """
    behind = scratch / "held_back-in-pyproject.txt"
    lines = [entry.requirement for entry in held_back(root)]
    behind.write_text("\n".join(lines), encoding="utf-8")
    lowest = pyproject(root)["project"]["requires-python"].removeprefix(">=")
    command = ["uv", "pip", "compile", "--quiet", "--no-config", f"--python-version={lowest}"]
    inputs = ["pyproject.toml", str(source(Path(lock))), f"-c={behind}"]
    options = [f"--extra={extra}" for extra in extras]
    return [*command, "--default-index=https://pypi.org/simple", *inputs, *options]


def pinned(lock_text: str) -> dict[str, str]:
    """Return the lines of a lock by the name that each pins, markers and several versions kept."""
    found: dict[str, list[str]] = {}
    for line in lock_text.splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==", line):
            found.setdefault(normalized(pin[1]), []).append(line.partition(" #")[0].rstrip())
    return {name: "\n".join(lines) for name, lines in found.items()}


def normalized(name: str) -> str:
    """Return a distribution's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(file: Path) -> Iterator[str]:
    """Yield what a requirements file asks for, comments left out."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if text := line.partition("#")[0].strip():
            yield text
