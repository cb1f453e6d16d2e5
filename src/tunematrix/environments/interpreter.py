"""A Python that somebody has → its version, and the folders that it finds packages in.

It is asked without being changed: no bytecode is written, and nothing of ours is on its path.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunematrix.environments import inherited
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import shown

LEAST = (3, 11)
"""The oldest Python that tunematrix runs on."""
_SECONDS = 60
_QUESTION = """
import json, site, sys, sysconfig
own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
places = [path for path in sys.path if path and not path.endswith(".zip")]
told = {
    "version": list(sys.version_info[:2]),
    "base": getattr(sys, "_base_executable", None) or sys.executable,
    "folders": [path for path in places if path not in own and "lib-dynload" not in path],
    "sites": site.getsitepackages(),
}
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python as it was found.

    Attributes:
        python: the program, as it was named.
        version: such as (3, 11).
        base: the Python that it is a virtualenv of; itself where it is none, as conda's.
        folders: where it finds packages, the first first.
        sites: those of them whose .pth files bring the others.
    """

    python: Path
    version: tuple[int, int]
    base: str
    folders: tuple[str, ...]
    sites: tuple[str, ...]

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """Name → version of all that is installed for it."""
        return inherited.found_in(self.folders)


def look_at(python: Path) -> Interpreter:
    """Ask a Python what it is and where its packages lie.

    Raises:
        BadInput: it is no Python that tunematrix runs on.
        MachineProblem: it doesn't answer.
    """
    if python.is_dir():
        text = f"{shown(python)} is a folder; name the Python in it"
        raise BadInput(f"{text}: {shown(python / 'bin' / 'python')}")
    try:
        ended = subprocess.run(
            # -I: what the caller's variables add is not of this Python. -B: it stays as it is.
            [python, "-I", "-B", "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        text = f"{shown(python)}: can't be run: {error.strerror}"
        raise BadInput(f"{text}; name a Python that exists, such as venv/bin/python") from None
    except subprocess.TimeoutExpired:
        text = f"{shown(python)} didn't say within {_SECONDS} s which Python it is"
        raise MachineProblem(f"{text}; does it start by hand?") from None
    try:
        told = json.loads(ended.stdout)
        version = (int(told["version"][0]), int(told["version"][1]))
    except (ValueError, KeyError, TypeError, IndexError):
        last = (ended.stderr.strip().splitlines() or ["it printed no answer"])[-1]
        text = f"{shown(python)} is no Python that works: {last}"
        raise BadInput(f"{text}; name one, such as venv/bin/python") from None
    if version < LEAST:
        text = f"{shown(python)} is Python {version[0]}.{version[1]}, and tunematrix needs 3.11"
        raise BadInput(f"{text} or later; make the virtualenv with a newer one")
    return Interpreter(python, version, told["base"], tuple(told["folders"]), tuple(told["sites"]))
