"""How the probe gets into a process: by variables, which a command's Pythons inherit, or here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tunematrix.paths import PACKAGE

FOLDER = "TUNEMATRIX_WATCH"
"""Variable with the folder that probes write to; without it, a probe does nothing."""
_PATH = "PYTHONPATH"
_PROBE = "tunematrix_probe"


def probe_folder() -> Path:
    """Return the folder with the probe, which Python is to look through first."""
    return PACKAGE / "probe"


def probed(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return a command's variables with those that put the probe into its Pythons.

    Args:
        variables: its own. folder: is there; each process writes a file in `probe/` in it.
    """
    path = [str(probe_folder()), *filter(None, [variables.get(_PATH, "")])]
    return {**variables, _PATH: os.pathsep.join(path), FOLDER: str(folder)}


@contextmanager
def probing(folder: Path) -> Iterator[None]:
    """Have this process probed meanwhile, and those that it starts.

    Args:
        folder: as for `probed`.
    """
    before = dict(os.environ)
    os.environ |= probed(before, folder)
    sys.path.insert(0, str(probe_folder()))
    try:
        # By its name there, since processes that this one starts know it by no other.
        probe = import_module(_PROBE)
    finally:
        sys.path.remove(str(probe_folder()))
    probe.start(str(folder))
    try:
        yield
    finally:
        probe.stop()
        for name in (_PATH, FOLDER):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
