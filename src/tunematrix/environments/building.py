"""Whether a virtualenv has to be built again, and the installer's options and variables."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from tunematrix.environments import inherited, locks, sources
from tunematrix.environments.origin import NAME, Origin
from tunematrix.environments.table import Environment, Variant
from tunematrix.errors import BadInput
from tunematrix.paths import pyproject, shown

UNFINISHED = "unfinished"
"""What the stamp of a virtualenv reads while it is being built."""

NOT_INSTALLED = """The installer failed; its own error message is above.
  If two packages want different versions of a third: the lock has one of them. Name a lock of your
  own, or try the newest versions, as in: nox -s cpu-latest (docs/your-project.md)
  If no package index can be reached: fetch the wheels on another machine, and build from them:
    PIP_NO_INDEX=1 PIP_FIND_LINKS=/folder/of/wheels nox -s ...
  To repair the half-built virtualenv, run the session again"""

# What tells uv which versions a variant takes.
_RESOLUTION: Mapping[Variant, tuple[str, ...]] = {
    "locked": (),
    "lowest": ("--upgrade", "--resolution=lowest-direct"),
    "latest": ("--upgrade",),
    "yours": (),  # not built so
}


@dataclass(frozen=True)
class Installation:
    """What the installer is called with, and warnings for whoever started it.

    Attributes:
        options: beside what is installed. variables: of the process, for uv.
        warnings: one line each.
    """

    options: tuple[str, ...]
    variables: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """A virtualenv, and what it is to hold.

    Attributes:
        root: the project's folder. virtualenv: its folder.
        what: the installer's arguments; those that are files count with their text.
        rows: the environments whose libraries it holds; none for the developers' tools alone.
        tools: the lock of the developers' tools, where it holds any.
        backend: what Nox makes virtualenvs and installs with: uv or virtualenv.
        inherits: whether it is built over the packages of the Python that runs Nox.
        origin: which tunematrix it holds.
        today: the day it is built on.
    """

    root: Path
    virtualenv: Path
    what: tuple[str, ...]
    rows: tuple[Environment, ...] = ()
    tools: str = ""
    backend: str = "uv"
    inherits: bool = False
    origin: Origin = field(default_factory=Origin)
    today: date = field(default_factory=date.today)

    @property
    def variant(self) -> Variant:
        """Which versions are taken."""
        return self.rows[0].variant if self.rows else "locked"

    @property
    def required(self) -> list[str]:
        """What tunematrix requires, with the extras of all rows."""
        return self.origin.requirements([extra for row in self.rows for extra in row.extras])

    @property
    def constraints(self) -> tuple[tuple[Path, tuple[str, ...]], ...]:
        """Each lock that constrains it, with the extras that the lock was compiled for."""
        if self.variant != "locked":
            return ()
        named = [(row.constraints, row.extras) for row in self.rows] + [(self.tools, ())]
        return tuple((self.root / file, extras) for file, extras in named if file)

    @property
    def packages(self) -> Path:
        """The virtualenv's own folder of packages."""
        return next(self.virtualenv.resolve().glob("lib/python3.*/site-packages"))

    @property
    def python(self) -> tuple[int, int]:
        """The version of the virtualenv's Python, as (3, 11)."""
        return (3, int(re.sub(r"\D", "", self.packages.parent.name.partition(".")[2])))

    @property
    def stamp(self) -> Path:
        """The file that says what the virtualenv was built from."""
        return self.virtualenv / "tunematrix-build"

    @property
    def state(self) -> str:
        """What the stamp reads; empty for a virtualenv that nothing was installed in."""
        return self.stamp.read_text(encoding="utf-8") if self.stamp.exists() else ""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that decides what it holds, its Python and its uv included.

        What is newest changes by itself: the latest variant is due again on another day.
        """
        paths = map(Path, self.what)
        files = [self.virtualenv / "pyvenv.cfg", *paths, *(file for file, _ in self.constraints)]
        files += [self.root / name for name in ("setup.py", "setup.cfg")]
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        folders = dict.fromkeys([self.root, self.origin.checkout or self.root])
        packages = [_packaging(pyproject(folder)) for folder in folders]
        day = self.today.isoformat() if self.variant == "latest" else ""
        lent = inherited.found_in(inherited.machine_folders()) if self.inherits else None
        parts = [self.what, texts, packages, self.variant, day, lent]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def check(self) -> None:
        """Check that this Python, this installer and these locks can build it.

        Raises:
            BadInput: it can't be built so.
        """
        version = "{}.{}".format(*self.python)
        for row in self.rows:
            if not row.admits(self.python):
                text = f"{row.name} needs Python {row.python}: there are no wheels for {version}"
                raise BadInput(
                    f"{text}; run Nox with another Python, or: nox -P 3.13 -s {row.name}"
                )
        if self.inherits and (self.python != sys.version_info[:2] or self.backend == "uv"):
            text = "TUNEMATRIX_INHERIT=1 takes the packages of the Python that runs Nox, with pip"
            raise BadInput(f"{text}; remove -P and --default-venv-backend")
        if self.variant != "locked" and self.backend != "uv":
            text = f"Only uv can choose the {self.variant} versions"
            raise BadInput(f'{text}: python -m pip install "nox[uv]", unset TUNEMATRIX_INHERIT')
        for file, extras in self.constraints:
            if wrong := self._wrong_lock(file, extras):
                raise BadInput(wrong)

    def prepare(self) -> Installation:
        """Make the virtualenv ready to be installed into; write its constraints beside its stamp.

        From here until `finish` its stamp says that it is unfinished.
        """
        if self.state == UNFINISHED or self.inherits:
            self._empty()
        self.stamp.write_text(UNFINISHED, encoding="utf-8")
        self._forget_tunematrix()
        have = self._lend()
        unfit = inherited.unfit(self.required, have)
        pins: dict[str, str] = {}
        for file, _ in self.constraints:
            pins |= locks.pinned(file.read_text(encoding="utf-8"))
        settings = sources.pip_settings()
        variables = sources.as_uv(settings, os.environ)
        alone = ("--no-index",) if sources.without_index(settings) else ()
        lent = have.keys() - unfit.keys()
        torch = sources.TorchSource()
        if sys.platform == "linux" and "torch" not in lent:
            folders = variables.get("UV_FIND_LINKS", "")
            torch = self._torch(pins, folders, may_ask=not alone)
        lines = [line for name, line in pins.items() if name not in lent]
        written = self.virtualenv / "tunematrix-constraints.txt"
        written.write_text("\n".join([*lines, *torch.pins]), encoding="utf-8")
        warnings = [
            f"{name} {have[name]} is inherited, but {unfit[name]} is required: installing another"
            for name in unfit
        ]
        if self.backend != "uv" and not self.inherits:
            text = "pip takes minutes for this, uv takes seconds"
            warnings.append(f'{text}: python -m pip install "nox[uv]"')
        versions = _RESOLUTION[self.variant]
        return Installation(
            options=(f"--constraint={written}", *versions, *torch.options, *alone),
            variables=variables,
            warnings=(*warnings, *torch.warnings),
        )

    def finish(self) -> list[str]:
        """Stamp it as built; return a line about what was inherited, if anything was.

        Raises:
            BadInput: what was inherited and what was installed don't fit together.
        """
        said = []
        if self.inherits:
            folders = inherited.machine_folders()
            account = inherited.account(self.required, self.packages, folders)
            if account.problems:
                text = "\n  ".join(
                    ["The inherited packages don't fit together:", *account.problems]
                )
                raise BadInput(
                    f"{text}\n  Install fitting versions there, or unset TUNEMATRIX_INHERIT"
                )
            kept = ", ".join(f"{name} {version}" for name, version in account.kept.items())
            said.append(f"Inherited from {sys.prefix}: {kept or 'nothing'}")
        self.stamp.write_text(self.fingerprint, encoding="utf-8")
        return said

    def _wrong_lock(self, file: Path, extras: Sequence[str]) -> str | None:
        """Return why a lock can't be used: tunematrix's own fit what they were compiled from."""
        checkout = self.origin.checkout
        if checkout is not None and file.is_relative_to(checkout / "constraints"):
            return locks.mismatch(checkout, file, extras)
        if file.is_file():
            return None
        table = shown(self.root / "pyproject.toml")
        return f"{shown(file)} isn't there; correct `constraints` in {table}"

    def _torch(
        self, pins: Mapping[str, str], find_links: str, *, may_ask: bool
    ) -> sources.TorchSource:
        """Find PyTorch's build for the one backend that has an index of its own."""
        index = next((row.torch_index for row in self.rows if row.torch_index), "")
        if not index:
            return sources.TorchSource()
        least = next((text for text in self.required if text.startswith("torch>=")), "")
        if not least:
            return sources.TorchSource()
        pin = re.split("[=;, ]+", pins.get("torch", least).replace(">", "="))[1]
        version = pin.partition("+")[0]  # a lock made from a virtualenv names the build as well
        wheels = sources.torch_wheels(find_links, sources.tag_of(index), self.python)
        return sources.torch_source(index, version, self.variant, wheels, may_ask=may_ask)

    def _lend(self) -> dict[str, str]:
        """Let it see the machine's packages after its own, or no longer; return what it sees."""
        folders = inherited.machine_folders() if self.inherits else []
        lines = [f"import site; site.addsitedir({folder!r})" for folder in folders]
        file = self.packages / "tunematrix_inherited.pth"
        file.write_text("\n".join(lines), encoding="utf-8")
        return inherited.found_in(folders)

    def _forget_tunematrix(self) -> None:
        """Remove another tunematrix: pip wouldn't install one of the same version over it."""
        for entry in [self.packages / NAME, *self.packages.glob(f"{NAME}-*.dist-info")]:
            shutil.rmtree(entry, ignore_errors=True)

    def _empty(self) -> None:
        """Remove every package but pip: what is half there, and what would hide the machine's."""
        for entry in self.packages.iterdir():
            if entry.name.startswith(("pip", "_virtualenv")):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _packaging(project: Mapping[str, Any]) -> list[Any]:
    """Return what of a pyproject.toml decides what is installed."""
    tool = project.get("tool", {})
    return [project.get("build-system"), project.get("project"), tool.get("hatch"), tool.get("uv")]


@contextmanager
def one_at_a_time(virtualenv: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a virtualenv's lock; where another process builds it, say so and wait.

    The system lets go of the lock when its process ends, however it ends.
    """
    import fcntl  # Windows has none, and has to get as far as the host probes

    with virtualenv.with_name(f"{virtualenv.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is building {virtualenv.name}: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
