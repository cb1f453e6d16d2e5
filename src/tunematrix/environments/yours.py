"""Versions that a user has → a Python that runs the suite over exactly them.

That Python is a virtualenv of ours in the run's folder. It holds tunematrix alone; a .pth file in
it names first the user's folders of packages, then a folder with what else the suite needs and the
user's set lacks. So the user's versions are found before ours, and nothing is written to theirs:
bytecode goes to a folder of ours as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.environments import carried, from_lock, inherited, locks, stand_ins, uv
from tunematrix.environments.building import one_at_a_time
from tunematrix.environments.interpreter import Interpreter, look_at
from tunematrix.environments.origin import NAME, Origin
from tunematrix.environments.running import OFFLINE, PYTEST
from tunematrix.environments.table import Environment, shipped_rows
from tunematrix.errors import BadInput, counted
from tunematrix.paths import made, shown

ENGINES = ("torch", "mlx")
"""Distributions without one of which nothing can be trained."""
TOLD = (*ENGINES, "transformers", "peft", "trl", "datasets", "accelerate", "mlx-lm")
"""Distributions whose versions are said first."""
_SHADOWED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
_PTH = "tunematrix_yours.pth"
_MISFIT = """Nothing was installed. Either change that package in a copy of your environment, and
  prove the copy, or use a tunematrix whose bounds fit"""


@dataclass(frozen=True)
class Yours:
    """A set of packages that a user has, and where a run over it is prepared.

    Attributes:
        row: the environment that it is run as.
        folder: where that keeps its records; virtualenvs are made in it.
        python: a Python that has the set, or that a lock's set is to be installed for.
        lock: a lock to install the set from; None where `python` has it.
        origin: which tunematrix tests it.
        wheels: a folder of what the set lacks, in place of an index; None where one is asked.
        parts: groups and extras of the lock that count too, as uv's options: --group=train.
    """

    row: Environment
    folder: Path
    python: Path
    lock: Path | None = None
    origin: Origin = field(default_factory=Origin)
    wheels: Path | None = None
    parts: tuple[str, ...] = ()

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras of tunematrix whose libraries are tested: the row's, or its backends'."""
        if self.row.extras:
            return self.row.extras
        rows = [one for one in shipped_rows().values() if {*one["backends"]} & {*self.row.backends}]
        return tuple(dict.fromkeys(extra for one in rows for extra in one["extras"]))

    @property
    def libraries(self) -> list[str]:
        """What was collected for it in a folder of wheels, by name: libraries that it lacks."""
        found = () if self.wheels is None else carried.names(self.wheels)
        return [name for name in found if name != NAME]

    @property
    def virtualenv(self) -> Path:
        """The virtualenv that the suite runs in."""
        return self.folder / "venv"

    @property
    def added(self) -> Path:
        """The folder of what the suite needs and the user's set lacks."""
        return self.folder / "added"


@dataclass(frozen=True)
class Ready:
    """What runs the suite.

    Attributes:
        python: the program. options: of it, before the caller's.
        variables: of its process; None for one that must not be there.
    """

    python: Path
    options: tuple[str, ...]
    variables: Mapping[str, str | None]


def yours(row: Environment, folder: Path) -> Yours:
    """Return the set of packages that a row of the environment table names."""
    python = Path(row.interpreter) if row.interpreter else Path(sys.executable)
    return Yours(row, folder, python, Path(row.lock) if row.lock else None)


def prepare(order: Yours, say: Callable[[str], None], warn: Callable[[str], None]) -> Ready:
    """Make a Python that runs the suite over the user's versions, unless it is there already.

    Args:
        order: the set. say: takes a line about what was done. warn: one that may matter.

    Raises:
        BadInput: the Python or the lock can't be used, or what is needed doesn't fit the set.
        MachineProblem: there is no uv, or no space.
    """
    made(order.folder)
    with one_at_a_time(order.virtualenv, say):
        python = order.python
        if order.lock is not None:
            virtualenv = order.folder / "set"
            python = from_lock.built(order.lock, look_at(python), virtualenv, say, order.parts)
        seen = look_at(python)
        _refuse(order, seen)
        bounds = inherited.unfit(order.origin.requirements(order.extras), seen.packages)
        for name, bound in bounds.items():
            tried = f"{name} {seen.packages[name]} is not what tunematrix was tried with ({bound})"
            warn(f"{tried}: what fails may be a matter of its age")
        stamp = order.virtualenv / "tunematrix-build"
        fingerprint = _fingerprint(order, seen)
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != fingerprint:
            _build(order, seen)
            stamp.write_text(fingerprint, encoding="utf-8")
    _check(order, seen, warn)
    for line in _account(order, seen):
        say(line)
    return _ready(order, seen)


def _refuse(order: Yours, seen: Interpreter) -> None:
    """Refuse a set in which nothing can be trained, or in which the suite itself can't run."""
    place, have = shown(order.lock or order.python), seen.packages
    wanted = [name for name in ENGINES if name in order.extras]
    if wanted and not any(name in have for name in wanted):
        text = f"{place} has no {' and no '.join(wanted)}, so nothing can be trained with it"
        advice = "name the Python that you train with, or another environment with -e"
        if order.lock is not None:
            advice = (
                "name a lock that has it; of uv.lock, default groups and those of --group count"
            )
        raise BadInput(f"{text} (of packages, there are {len(have)}); {advice}")
    if misfits := inherited.unfit(order.origin.requirements([]), have):
        lines = [
            f"tunematrix needs {bound}, and {have[n]} is there" for n, bound in misfits.items()
        ]
        text = "\n  ".join([f"{place} has packages that the suite can't run with:", *lines])
        raise BadInput(f"{text}\n  {_MISFIT}")


def _fingerprint(order: Yours, seen: Interpreter) -> str:
    """Return a digest of all that decides what is added."""
    if order.wheels is not None:
        where = carried.fingerprint(order.wheels)
    else:
        where = str(order.origin.checkout) if order.origin.checkout else _packed(order).name
    needs = order.origin.requirements([])
    parts = [str(seen.python), seen.base, seen.version, seen.folders, seen.packages, needs, where]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _packed(order: Yours) -> Path:
    return order.origin.repacked(made(order.folder / "wheel")).parent


def _build(order: Yours, seen: Interpreter) -> None:
    """Make the virtualenv, with tunematrix in it, and the folder beside it."""
    for half in (order.virtualenv, order.added):
        shutil.rmtree(half, ignore_errors=True)
    made(order.added)
    if order.wheels is None:
        _install(order, seen)
    else:
        carried.install(order.wheels, seen, order.virtualenv, order.added)
    (packages,) = order.virtualenv.glob("lib/python3.*/site-packages")
    lines = [
        f"import sys; sys.pycache_prefix = {str(order.folder / 'pycache')!r}",
        *(f"import site; site.addsitedir({site!r})" for site in seen.sites),
        f"import site; site.addsitedir({str(order.added)!r})",
    ]
    (packages / _PTH).write_text("\n".join([*lines, ""]), encoding="utf-8")


def _install(order: Yours, seen: Interpreter) -> None:
    """Let uv make the virtualenv, and install what is lacking from where pip is told to look."""
    advice = "Correct what uv names, and run this again"
    uv.ask("venv", "--quiet", f"--python={seen.base}", order.virtualenv, advice=advice)
    python = order.virtualenv / "bin" / "python"
    pins = _missing(order, seen, python)
    install = ("pip", "install", "--quiet", f"--python={python}", "--no-deps")
    own = order.origin.arguments([], order.folder / "wheel")
    uv.ask(*install, *own, advice=advice)
    if pins:
        uv.ask(*install, f"--target={order.added}", *pins, advice=advice)


def _missing(order: Yours, seen: Interpreter, python: Path) -> list[str]:
    """Return what the suite needs and the set lacks, in versions that fit the set."""
    needs = order.origin.requirements([])
    if not inherited.account(needs, order.added, seen.folders).problems:
        return []  # so that a whole set needs no package index
    folder, lines = stand_ins.write(seen.packages, order.virtualenv / "stand-ins")
    limits = stand_ins.limits(lines, order.virtualenv)
    quiet = ("--quiet", "--no-header", "--no-annotate")
    command = ("pip", "compile", *quiet, f"--python={python}", *limits, "-")
    found = uv.ask(*command, given="\n".join(needs), advice=_MISFIT, beside=[folder])
    pins = locks.pinned(found)
    return [line for name, line in pins.items() if name not in seen.packages]


def _check(order: Yours, seen: Interpreter, warn: Callable[[str], None]) -> None:
    """Check that all that the suite needs is there, of the user's or apart."""
    needs = order.origin.requirements([])
    if problems := inherited.account(needs, order.added, seen.folders).problems:
        text = "\n  ".join(["What the suite needs doesn't fit together:", *problems])
        advice = "Change that package in a copy of your environment"
        if order.wheels is not None:
            advice = "Collect the wheels again, with the list of what is here now"
        raise BadInput(f"{text}\n  {advice}")
    for problem in inherited.account(order.libraries, order.added, seen.folders).problems:
        warn(f"{problem}: cells that need it may fail")


def _account(order: Yours, seen: Interpreter) -> list[str]:
    """Say which versions are tested, and what was added beside them."""
    have = seen.packages
    named = ", ".join(f"{name} {have[name]}" for name in TOLD if name in have)
    added = inherited.found_in([str(order.added)])
    apart = ", ".join(f"{name} {version}" for name, version in sorted(added.items()))
    return [
        f"Your versions ({counted(len(have), 'package')} of {shown(seen.python)}): {named}",
        f"Added apart, in {shown(order.added)}: {apart or 'nothing'}",
    ]


def _ready(order: Yours, seen: Interpreter) -> Ready:
    bin_folder = str(seen.python.absolute().parent)  # commands of the set, such as ninja
    variables: dict[str, str | None] = {
        name: os.environ.get(name, OFFLINE[name]) for name in OFFLINE
    }
    variables |= dict.fromkeys(_SHADOWED)
    folders = [bin_folder, str(order.added / "bin"), os.environ.get("PATH", "")]
    variables["PATH"] = os.pathsep.join(folders)
    variables["PYTHONPYCACHEPREFIX"] = str(order.folder / "pycache")
    variables["PYTHONNOUSERSITE"] = "1"  # packages of one's home are not of the set
    # Where pytest would keep its own, the project's tests may have theirs.
    cache = f"--override-ini=cache_dir={order.folder / 'pytest-cache'}"
    options = ("-m", "pytest", *PYTEST, cache, f"--environment={order.row.name}")
    return Ready(order.virtualenv / "bin" / "python", options, variables)
