"""Which distributions a command finds, and in which versions; none of them is imported.

A folder `NAME-VERSION.dist-info` says both, as installers must write it
(https://packaging.python.org/specifications/recording-installed-packages/). Reading the files in
these folders, as importlib.metadata does, takes a hundred times as long.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tunematrix.command.invocation import Invocation
from tunematrix.configuration.trainer import named

_SECONDS = 20.0
_WHERE_IT_LOOKS = "import sys; print(*filter(None, sys.path), sep=chr(10))"
_SEPARATORS = re.compile(r"[-_.]+")


class Distributions:
    """What the Pythons of commands find, looked up once for each of them."""

    def __init__(self) -> None:
        self._found: dict[str, Mapping[str, str]] = {}

    def of(self, invocation: Invocation) -> Mapping[str, str]:
        """Return name to version; nothing where a command doesn't say what Python it uses."""
        python = _python(invocation)
        if python is None:
            return {}
        if python not in self._found:
            paths = sys.path if python == sys.executable else _paths(python, invocation)
            self._found[python] = versions(invocation.folder / path for path in paths)
        return self._found[python]


def versions(folders: Iterable[Path]) -> Mapping[str, str]:
    """Return the distributions in some folders, name to version; those of the first one count.

    Names are written as indexes do: in lower case, with dashes.
    """
    found: dict[str, str] = {}
    for folder in folders:
        for path in folder.glob("*.dist-info"):
            name, _, version = path.stem.partition("-")
            found.setdefault(_SEPARATORS.sub("-", name).lower(), version)
    return dict(sorted(found.items()))


def _python(invocation: Invocation) -> str | None:
    """Return the Python of a command: the one that it names, or that of its program's virtualenv.

    A launcher isn't asked: it starts what the trainer's template says.
    """
    template = invocation.command.template.command
    if "python" in named(template):
        return invocation.values["python"]
    (program, *_) = invocation.filled(template[:1], {})
    at = str(invocation.folder / program) if "/" in program else program
    place = shutil.which(at, path=invocation.variables.get("PATH"))
    if place is None or not (Path(place).parents[1] / "pyvenv.cfg").is_file():
        return None
    beside = Path(place).parent
    own = Path(sys.executable)
    return sys.executable if beside == own.parent else str(beside / "python")


def _paths(python: str, invocation: Invocation) -> list[str]:
    """Ask another Python where it looks for what is imported."""
    try:
        done = subprocess.run(
            [python, "-c", _WHERE_IT_LOOKS],
            cwd=invocation.folder,
            env=invocation.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []  # the command itself can't do better, and its end says why
    return done.stdout.splitlines()
