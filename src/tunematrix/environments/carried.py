"""A folder of wheels that `tunematrix wheels` made → its packages, put to use without an index.

Nothing is resolved here: the versions were chosen for the packages that are here.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from tunematrix.environments import prove_offline
from tunematrix.environments.interpreter import Interpreter
from tunematrix.environments.origin import NAME
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import shown


def names(folder: Path) -> list[str]:
    """Return the names of the distributions whose wheels lie in a folder, sorted.

    Raises:
        BadInput: it is no such folder, or has a wheel with a name that nothing can be read from.
    """
    return sorted(_wheels(folder))


def fingerprint(folder: Path) -> str:
    """Return what tells a folder from another one: the names and sizes of its wheels."""
    return prove_offline.fingerprint(folder)


def install(folder: Path, python: Interpreter, virtualenv: Path, added: Path) -> None:
    """Make a virtualenv with tunematrix in it, and unpack what a Python lacks into a folder.

    Raises:
        BadInput: as `names`, or tunematrix isn't among them.
        MachineProblem: the virtualenv can't be made.
    """
    found = _wheels(folder)
    if NAME not in found:
        text = f"{shown(folder)}: has no wheel of tunematrix"
        raise BadInput(f"{text}; copy the whole folder that `tunematrix wheels` made")
    command = [python.base, "-I", "-m", "venv", "--without-pip", str(virtualenv)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        text = f"{python.base} can't make a virtualenv: {last}"
        raise MachineProblem(f"{text}; try it by hand: {' '.join(command)}")
    (packages,) = virtualenv.glob("lib/python3.*/site-packages")
    prove_offline.unpack(found[NAME], packages)
    for name, wheel in found.items():
        if name != NAME and name not in python.packages:
            prove_offline.unpack(wheel, added)


def _wheels(folder: Path) -> dict[str, Path]:
    try:
        found = {str(parse_wheel_filename(one.name)[0]): one for one in folder.glob("*.whl")}
    except InvalidWheelFilename as error:
        raise BadInput(f"{shown(folder)}: {error}; remove that file") from None
    if not found:
        text = f"{shown(folder)}: has no wheels"
        raise BadInput(f"{text}; name a folder that `tunematrix wheels` made")
    return found
