"""Whatever a machine without a network lacks to be tested → a folder of wheels for it.

The packages that it has choose the versions. One script lies beside the wheels; it runs the suite
there, with nothing but the Python that the packages are of.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import mac_platforms
from packaging.utils import parse_wheel_filename

from tunematrix.environments import locks, prove_offline, stand_ins, uv
from tunematrix.environments.origin import Origin
from tunematrix.errors import BadInput, counted
from tunematrix.paths import made, shown

LIMIT_MB = 60
"""Size above which a folder is called large: what an upload or a mail often takes."""
_ADVICE = "Correct what is named, and run this again"
_LINUX = re.compile(r"(x86_64|aarch64)-manylinux_2_(\d+)")
_MAC = re.compile(r"aarch64-apple-darwin")
_OLDEST_MAC = (14, 0)


@dataclass(frozen=True)
class Target:
    """The machine that wheels are for.

    Attributes:
        python: such as "3.12". platform: as uv names it, such as x86_64-manylinux_2_28.
        have: name → version of what is installed there.
    """

    python: str
    platform: str
    have: Mapping[str, str]

    def platforms(self) -> list[str]:
        """Return the tags of wheels that it takes, the newest first.

        Raises:
            BadInput: there is no such platform.
        """
        if linux := _LINUX.fullmatch(self.platform):
            machine, newest = linux[1], int(linux[2])
            tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
            return [*tags, f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
        if _MAC.fullmatch(self.platform):
            return list(mac_platforms(_OLDEST_MAC, "arm64"))
        text = f"{self.platform!r} is no platform that wheels are collected for"
        raise BadInput(
            f"{text}; name x86_64-manylinux_2_28, with the machine's glibc for 2_28, "
            "aarch64-manylinux_2_28 or aarch64-apple-darwin"
        )


@dataclass(frozen=True)
class Collection:
    """A folder of wheels to be made.

    Attributes:
        folder: its path. target: the machine that it is for.
        extras: of tunematrix, whose libraries come along as far as the machine lacks them.
        origin: which tunematrix.
    """

    folder: Path
    target: Target
    extras: tuple[str, ...]
    origin: Origin = field(default_factory=Origin)


def read_have(file: Path) -> dict[str, str]:
    """Return name → version of what `pip list --format=freeze` has printed.

    Raises:
        BadInput: it can't be read, or a line isn't of that form.
    """
    command = "python3 -m pip list --format=freeze"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        text = f"{shown(file)}: can't be read: {error}"
        raise BadInput(f"{text}; on the other machine, write it with: {command}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        pin = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)={2,3}(\S+)", text)
        if pin is None:
            message = f"{shown(file)}:{number}: is not NAME==VERSION: {text}"
            raise BadInput(f"{message}; on the other machine, write it with: {command}")
        found[locks.normalized(pin[1])] = pin[2]
    return found


def collect(order: Collection, say: Callable[[str], None]) -> list[Path]:
    """Make a folder of wheels; return the wheels, the largest first.

    It is there as a whole, or stays as it was.

    Args:
        order: what to collect. say: takes a line of progress.

    Raises:
        BadInput: the packages don't fit together, or one can't be had for the target.
        MachineProblem: there is no uv.
    """
    platforms = order.target.platforms()
    _refuse(order.folder)
    made(order.folder.absolute().parent)
    with tempfile.TemporaryDirectory(dir=order.folder.absolute().parent) as scratch:
        half = made(Path(scratch) / "wheels")
        say(f"Choosing versions for Python {order.target.python} on {order.target.platform}")
        pins = _chosen(order, Path(scratch))
        say(f"Fetching {counted(len(pins), 'wheel')}")
        _fetch(order.target, platforms, pins, half)
        _pack(order, half)
        shutil.copy(prove_offline.__file__, half / prove_offline.SCRIPT)
        _check(half, platforms)
        shutil.rmtree(order.folder, ignore_errors=True)
        half.rename(order.folder)
    return sorted(order.folder.glob("*.whl"), key=lambda file: -file.stat().st_size)


def _refuse(folder: Path) -> None:
    """Refuse a folder that has something else in it."""
    is_own = (folder / prove_offline.ABOUT).is_file()
    if folder.exists() and not is_own and (not folder.is_dir() or any(folder.iterdir())):
        text = f"{shown(folder)}: is there, and not a folder of wheels that this command made"
        raise BadInput(f"{text}; name a new folder")


def _chosen(order: Collection, scratch: Path) -> dict[str, _Pin]:
    """Return what is to be fetched: what is lacking there, and all that `prove.py` itself needs.

    One version of each serves both.
    """
    have = order.target.have
    own = order.origin.requirements([])
    more = [
        text
        for text in order.origin.requirements(order.extras)
        if locks.normalized(Requirement(text).name) not in have
    ]
    folder, lines = stand_ins.write(have, scratch / "have")
    beside = _compiled(order.target, [*own, *more], lines, scratch, [folder])
    lacking = {name: pin for name, pin in beside.items() if name not in have}
    kept = [pin.requirement for pin in lacking.values()]
    return {**_compiled(order.target, own, kept, scratch), **lacking}


@dataclass(frozen=True)
class _Pin:
    """A version of a distribution, and whether it exists as a wheel."""

    requirement: str
    is_wheel: bool


def _compiled(
    target: Target,
    needs: Sequence[str],
    limits: Sequence[str],
    scratch: Path,
    beside: Sequence[Path] = (),
) -> dict[str, _Pin]:
    """Return what some requirements come to on the target, within some limits, by name."""
    where = (f"--python-version={target.python}", f"--python-platform={target.platform}")
    quiet = ("--quiet", "--no-header", "--format=pylock.toml")
    command = ("pip", "compile", *quiet, *where, *stand_ins.limits(limits, scratch), "-")
    text = uv.ask(*command, given="\n".join(needs), advice=_ADVICE, beside=beside)
    packages = tomllib.loads(text).get("packages", [])
    return {
        str(one["name"]): _Pin(f"{one['name']}=={one['version']}", bool(one.get("wheels")))
        for one in packages
    }


def _fetch(
    target: Target, platforms: Iterable[str], pins: Mapping[str, _Pin], folder: Path
) -> None:
    """Let pip fetch wheels; what has none is built, and has to fit any machine then."""
    wheels = [pin.requirement for pin in pins.values() if pin.is_wheel]
    sources = [pin.requirement for pin in pins.values() if not pin.is_wheel]
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    where = [f"--platform={tag}" for tag in platforms]
    where += [f"--python-version={target.python}", "--implementation=cp", "--only-binary=:all:"]
    if wheels:
        _pip("download", *quiet, *where, f"--dest={folder}", *wheels)
    if sources:
        _pip("wheel", *quiet, f"--wheel-dir={folder}", *sources)


def _pip(*arguments: str) -> None:
    """Run pip, which fetches wheels for other machines as uv doesn't; uv brings it."""
    uv.ask("tool", "run", f"--python={sys.executable}", "pip", *arguments, advice=_ADVICE)


def _pack(order: Collection, folder: Path) -> None:
    """Put tunematrix's own wheel into a folder, and what the folder is for."""
    if order.origin.checkout is not None:
        quiet = ("--quiet", "--wheel", f"--out-dir={folder}", "--no-create-gitignore")
        uv.ask("build", *quiet, order.origin.checkout, advice=_ADVICE)
    else:
        wheel = order.origin.repacked(folder / "packed")
        wheel.rename(folder / wheel.name)
        shutil.rmtree(folder / "packed")
    about = {"python": order.target.python, "platform": order.target.platform}
    text = json.dumps({**about, "have": dict(order.target.have)}, indent=1)
    (folder / prove_offline.ABOUT).write_text(text, encoding="utf-8")


def _check(folder: Path, platforms: Sequence[str]) -> None:
    """Check that each wheel can be installed on the target."""
    for file in folder.glob("*.whl"):
        tags = {tag.platform for tag in parse_wheel_filename(file.name)[3]}
        if not tags & {"any", *platforms}:
            text = f"{file.name} was compiled here, since nobody has published it for the target"
            raise BadInput(f"{text}; collect the wheels on a machine like the target")
