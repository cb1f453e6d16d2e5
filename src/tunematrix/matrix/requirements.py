"""What options need → what of it isn't here: modules and build tools are looked for, never run."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunematrix.matrix.capabilities import BuildTools
from tunematrix.matrix.groups import Groups


@dataclass(frozen=True)
class Lack:
    """Modules that an option of a cell needs and that aren't installed.

    Attributes:
        axis: the axis; option: its option.
        modules: those that are missing.
        install: the command that installs them.
    """

    axis: str
    option: str
    modules: tuple[str, ...]
    install: str

    def __str__(self) -> str:
        """Say all of it in a sentence."""
        wanted = f"{self.axis} {self.option} needs {', '.join(self.modules)}"
        return f"{wanted}; install it with: {self.install}"


def importable(module: str) -> bool:
    """Return whether there is such a module, without importing more than its parents."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A parent package is missing.
        return False


def first_lack(axes: Mapping[str, str], groups: Groups) -> Lack | None:
    """Return what the first of a cell's options (axis to option) lacks; None where all is there."""
    for axis, name in axes.items():
        declared = groups.axes[axis][name].declared
        if absent := tuple(module for module in declared.requires if not importable(module)):
            install = declared.install or f"nox -s {axes['backend']}"
            return Lack(axis, name, absent, install)
    return None


def build_tools(wanted: BuildTools) -> dict[str, str | None]:
    """Return where each tool lies that an option compiles with; None for one that isn't here."""
    compiler = shlex.split(os.environ.get("CXX", ""))[:1] or [wanted.compiler]
    commands = [*(compiler if wanted.compiler else ()), *wanted.tools]
    # A virtualenv that isn't activated isn't on PATH, and what compiles looks there as well.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    headers = {name: Path(sysconfig.get_path("include"), name) for name in wanted.headers}
    return {
        **{name: shutil.which(name, path=places) for name in commands},
        **{name: str(path) if path.is_file() else None for name, path in headers.items()},
    }
