"""Which modules and build tools that options need are missing; none of them is run."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunematrix.configuration.declarations import BuildTools
from tunematrix.errors import Obstacle
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

    @property
    def obstacle(self) -> Obstacle:
        """What was looked for, what was found, what to do."""
        modules = ", ".join(self.modules)
        found = f"{self.axis} {self.option} needs {modules}"
        return Obstacle(f"the modules {modules}", found, f"install it with: {self.install}")


def importable(module: str) -> bool:
    """Return whether there is such a module, without importing more than its parents."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A parent package is missing.
        return False


def missing_modules(modules: Sequence[str]) -> tuple[str, ...]:
    """Return those of these modules that can't be imported here."""
    return tuple(module for module in modules if not importable(module))


def first_lack(
    axes: Mapping[str, str],
    groups: Groups,
    missing: Callable[[Sequence[str]], tuple[str, ...]] = missing_modules,
) -> Lack | None:
    """Return what the first of a cell's options lacks; None where all is there.

    Args:
        axes: of the cell, each with its option. groups: where those are declared.
        missing: returns those of some modules that can't be imported where the cell would run.
    """
    for axis, name in axes.items():
        declared = groups.axes[axis][name].declared
        if absent := missing(declared.requires):
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
