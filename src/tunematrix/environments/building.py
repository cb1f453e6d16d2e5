"""What a virtualenv is to hold → whether it is due, and all that the installer has to be told."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tunematrix.environments import inherited, locks, sources
from tunematrix.environments.table import Environment, Variant
from tunematrix.paths import pyproject

UNFINISHED = "unfinished"
"""What the stamp of a virtualenv reads while it is being built."""

# What tells uv which versions a variant takes.
_RESOLUTION: Mapping[Variant, tuple[str, ...]] = {
    "locked": (),
    "lowest": ("--upgrade", "--resolution=lowest-direct"),
    "latest": ("--upgrade",),
}


@dataclass(frozen=True)
class Installation:
    """What the installer has to be told.

    Attributes:
        options: beside what is installed. settings: variables for uv.
        warnings: what whoever started this should know beforehand.
    """

    options: tuple[str, ...]
    settings: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """A virtualenv, and what it is to hold.

    Attributes:
        root: the project's folder. virtualenv: its folder.
        what: the installer's arguments; those that are files count with their text.
        rows: the environments whose libraries it holds; none for the developers' tools alone.
        tools: the lock of the developers' tools, where it holds any.
        inherits: whether it is built over the packages of the Python that runs Nox.
    """

    root: Path
    virtualenv: Path
    what: tuple[str, ...]
    rows: tuple[Environment, ...] = ()
    tools: str = ""
    inherits: bool = False

    @property
    def variant(self) -> Variant:
        """Which versions are taken."""
        return self.rows[0].variant if self.rows else "locked"

    @property
    def extras(self) -> tuple[str, ...]:
        """The package's extras, of all rows."""
        return tuple(dict.fromkeys(extra for row in self.rows for extra in row.extras))

    @property
    def locks(self) -> tuple[tuple[Path, tuple[str, ...]], ...]:
        """Each lock that constrains it, with the extras that the lock was compiled for."""
        if self.variant != "locked":
            return ()
        named = [(row.constraints, row.extras) for row in self.rows] + [(self.tools, ())]
        return tuple((self.root / file, extras) for file, extras in named if file)

    @property
    def stamp(self) -> Path:
        """The file that says what the virtualenv was built from."""
        return self.virtualenv / "tunematrix-build"

    @property
    def packages(self) -> Path:
        """The virtualenv's own folder of packages."""
        return next(self.virtualenv.resolve().glob("lib/python3.*/site-packages"))

    @property
    def python(self) -> tuple[int, int]:
        """The version of the virtualenv's Python, as (3, 11)."""
        return (3, int(re.sub(r"\D", "", self.packages.parent.name.partition(".")[2])))

    @property
    def state(self) -> str:
        """What the stamp reads; empty for a virtualenv that nothing was installed in."""
        return self.stamp.read_text(encoding="utf-8") if self.stamp.exists() else ""

    def problem(self) -> str | None:
        """Return why it can't be built, None where it can."""
        version = "{}.{}".format(*self.python)
        for row in self.rows:
            if not row.admits(self.python):
                text = f"{row.name} needs a Python {row.python}, there are no wheels for {version}"
                return f"{text}; run Nox by such a one, or nox --python=3.X -s {row.name}"
        if self.inherits and self.python != sys.version_info[:2]:
            text = "TUNEMATRIX_INHERIT takes over the packages of the Python that runs Nox"
            return f"{text}, and that isn't a {version}; leave out --python"
        found = (locks.mismatch(self.root, file, extras) for file, extras in self.locks)
        return next(filter(None, found), None)

    def fingerprint(self) -> str:
        """Return a digest of all that decides what it holds, its Python and its uv included.

        What is newest changes by itself: the latest variant is due again on another day.
        """
        paths = map(Path, self.what)
        files = [self.virtualenv / "pyvenv.cfg", *paths, *(file for file, _ in self.locks)]
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        project = pyproject(self.root)
        package = [project.get("build-system"), project.get("project")]
        package.append(project.get("tool", {}).get("hatch"))
        day = date.today().isoformat() if self.variant == "latest" else ""
        lent = inherited.found_in(inherited.machine_folders()) if self.inherits else None
        parts = [self.what, texts, package, self.variant, day, lent]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def prepare(self) -> Installation:
        """Make the virtualenv ready to be installed into; write its constraints beside its stamp.

        From here until `finish` its stamp says that it is unfinished.
        """
        if self.state == UNFINISHED:
            self._empty()
        self.stamp.write_text(UNFINISHED, encoding="utf-8")
        have = self._lend()
        required = locks.requirements(self.root, self.extras)
        unfit = inherited.unfit(required, have)
        pins: dict[str, str] = {}
        for file, _ in self.locks:
            pins |= locks.pinned(file.read_text(encoding="utf-8"))
        settings, torch = sources.pip_settings(), sources.TorchSource()
        index = next((row.torch_index for row in self.rows if row.torch_index), "")
        if index and ("torch" not in have or "torch" in unfit):
            version = _torch_version(pins, required)
            torch = sources.torch_source(index, version, self.variant, settings)
        pins = {name: line for name, line in pins.items() if name not in have or name in unfit}
        constraints = self.virtualenv / "tunematrix-constraints.txt"
        constraints.write_text("\n".join([*pins.values(), *torch.pins]), encoding="utf-8")
        warnings = [
            f"{name} {have[name]} of this machine is not what {wanted} asks for: installing another"
            for name, wanted in unfit.items()
        ]
        return Installation(
            options=(f"-c={constraints}", *_RESOLUTION[self.variant], *torch.options),
            settings=settings,
            warnings=tuple(filter(None, [*warnings, torch.warning])),
        )

    def account(self) -> inherited.Account:
        """Return what it holds that lies elsewhere, and which requirements aren't met."""
        required = locks.requirements(self.root, self.extras)
        return inherited.account(required, self.packages, inherited.machine_folders())

    def finish(self, fingerprint: str) -> None:
        """Stamp it as built."""
        self.stamp.write_text(fingerprint, encoding="utf-8")

    def _lend(self) -> dict[str, str]:
        """Let it see the machine's packages after its own, or no longer; return what it sees."""
        folders = inherited.machine_folders() if self.inherits else []
        lines = [f"import site; site.addsitedir({folder!r})" for folder in folders]
        file = self.packages / "tunematrix_inherited.pth"
        file.write_text("\n".join(lines), encoding="utf-8")
        return inherited.found_in(folders)

    def _empty(self) -> None:
        """Remove every package but pip: an interrupted build may have left halves of them."""
        for entry in self.packages.iterdir():
            if entry.name.startswith(("pip", "_virtualenv")):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


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


def _torch_version(pins: Mapping[str, str], required: Sequence[str]) -> str:
    """Return the torch that is locked or, without a lock, the least that is allowed."""
    texts = [pins.get("torch", ""), *(text for text in required if text.startswith("torch>="))]
    return re.split("[=;, ]+", next(filter(None, texts)))[1]
