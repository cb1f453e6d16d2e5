"""What somebody asks for → a set of packages that fits together; uv does the work.

Packages that tunematrix itself runs on are never moved. PyTorch stays as it is too, unless it is
asked for by name: its builds are large, and those for one kind of machine carry no date.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import SpecifierSet

from tunematrix.environments import sources, uv
from tunematrix.environments.from_lock import UV_LOCK
from tunematrix.environments.interpreter import look_at
from tunematrix.environments.locks import normalized, pinned
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.paths import shown
from tunematrix.versions.asked import AsItIs, Asked, ByLock, ByPins, ByPython, OnDay
from tunematrix.versions.sets import TORCH, Beneath, PackageSet

_OF_TORCH = ("nvidia-", "cuda-", "triton")
"""How the packages begin that a build of PyTorch for NVIDIA's GPUs brings, and no other needs."""
_LATER = "2100-01-01T00:00:00Z"
"""A moment before which every release was published."""
_ADVICE = "Name other versions, or another day; docs/bisect.md says how a set can be named"


class NoSuchSet(BadInput):
    """No set of packages is as it was asked for; the text has the resolver's own reason.

    Attributes:
        reason: that alone, in a line.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Wanted:
    """What a set has to be.

    Attributes:
        bounds: normalized name to what its version must meet, such as "==1.15.0" or ">=1,<2".
        before: the moment by which all of it was published, as 2025-06-30T23:59:59Z; None for any.
        preferred: a set whose versions are kept wherever they fit; None for the newest.
        upgraded: names of packages that are to be the newest though others are kept.
        roots: names of what has to be there, beside what the environment's sets consist of.
    """

    bounds: Mapping[str, str] = field(default_factory=dict)
    before: str | None = None
    preferred: PackageSet | None = None
    upgraded: Sequence[str] = ()
    roots: Sequence[str] = ()


def resolved(asked: Asked, below: Beneath, text: str) -> PackageSet:
    """Return the set that somebody asks for, whole: what isn't asked for is the environment's.

    Args:
        asked: what for. below: the environment. text: how it was written, for messages.

    Raises:
        NoSuchSet: there is no such set; BadInput: a lock or a Python can't be used.
        MachineProblem: there is no uv, or no index can be reached.
    """
    match asked:
        case AsItIs():
            return below.packages
        case OnDay(day):
            end = datetime.combine(day, time(23, 59, 59), tzinfo=UTC)
            return solve(Wanted(before=moment(end)), below, text)
        case ByPins(pins):
            bounds = {name: f"=={version}" for name, version in pins.items()}
            wanted = Wanted(bounds=bounds, preferred=below.packages, roots=tuple(pins))
            return solve(wanted, below, text)
        case ByLock(path):
            return below.laid_over(_without_torch_parts(_locked(path), below), text)
        case ByPython(path):
            return below.laid_over(_without_torch_parts(look_at(path).packages, below), text)


def moment(when: datetime) -> str:
    """Return a moment as uv and package indexes write it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def solve(wanted: Wanted, below: Beneath, text: str) -> PackageSet:
    """Let uv find the set that meets all bounds; what is asked for is told as `text`.

    Raises:
        NoSuchSet: there is none. MachineProblem: there is no uv, or no index can be reached.
    """
    have = below.packages.versions
    roots = dict.fromkeys((*below.roots, *wanted.roots))
    free = {n: b for n, b in wanted.bounds.items() if n not in below.fixed}
    if moved := [n for n in wanted.bounds if n in below.fixed and _moves(n, wanted, below)]:
        names = ", ".join(moved)
        text = f"tunematrix itself runs on {names}, which stays as it is"
        raise NoSuchSet(f"{text}; name others", text)
    fixed = {name: have[name] for name in below.fixed if name in have and name != "tunematrix"}
    undated = {*fixed}
    kept = {} if wanted.preferred is None else dict(wanted.preferred.versions)
    if TORCH in have and TORCH not in free:
        fixed[TORCH] = have[TORCH]
        undated |= {TORCH, *below.of_torch}
        kept = {name: have[name] for name in below.of_torch} | kept
    held = [_as_pins(fixed), *(name + bound for name, bound in free.items())]
    with tempfile.TemporaryDirectory() as scratch:
        constraints, chosen = Path(scratch, "fixed.txt"), Path(scratch, "chosen.txt")
        constraints.write_text("\n".join(held), encoding="utf-8")
        chosen.write_text(_as_pins(kept), encoding="utf-8")
        options = ["--no-header", "--no-annotate", "--quiet", f"--python={sys.executable}"]
        options += [f"--constraint={constraints}", f"--output-file={chosen}"]
        options += [f"--upgrade-package={name}" for name in wanted.upgraded]
        if wanted.before is not None:
            options += [f"--exclude-newer={wanted.before}"]
            options += [f"--exclude-newer-package={name}={_LATER}" for name in sorted(undated)]
        _ask(*options, given="\n".join(roots), what=text)
        found = _read_pins(chosen.read_text(encoding="utf-8"))
    return below.laid_over(found, text)


def _ask(*options: str, given: str, what: str) -> None:
    """Ask uv for a resolution; its reason for having none is told without any credential."""
    try:
        uv.ask("pip", "compile", *options, "-", given=given, advice=_ADVICE)
    except (BadInput, uv.IndexAway) as error:
        told = masked(str(error), secrets_in({**os.environ, **_sources()}))
        if isinstance(error, uv.IndexAway):
            raise MachineProblem(f"{what}: {told}") from None
        lines = [line.strip() for line in told.removesuffix(_ADVICE).strip().splitlines()]
        reason = next((line for line in lines if line.startswith("cause: ")), lines[-1])
        raise NoSuchSet(f"{what}: {told}", reason.removeprefix("cause: ")) from None


def _sources() -> Mapping[str, str]:
    return sources.as_uv(sources.pip_settings(), os.environ)


def _moves(name: str, wanted: Wanted, below: Beneath) -> bool:
    return wanted.bounds[name] != f"=={below.packages.versions.get(name)}"


def _as_pins(versions: Mapping[str, str]) -> str:
    return "\n".join(f"{name}=={version}" for name, version in sorted(versions.items()))


def _read_pins(text: str) -> dict[str, str]:
    """Return name → version of a file of pins; a line whose marker isn't met here is left out."""
    found: dict[str, str] = {}
    for name, lines in pinned(text).items():
        for line in lines.splitlines():
            pin, _, marker = line.partition(";")
            if _applies(marker):
                found[name] = pin.partition("==")[2].split()[0].strip()
    return found


def _applies(marker: str) -> bool:
    try:
        return not marker.strip(" \\") or Marker(marker.strip(" \\")).evaluate()
    except InvalidMarker as error:
        raise BadInput(f"{marker.strip()} is no marker of an environment: {error}") from None


def _locked(lock: Path) -> dict[str, str]:
    """Return name → version of what a lock names for the Python at work.

    Raises:
        BadInput: it can't be read, or names no version.
    """
    advice = f"Correct {shown(lock)}, or name another requirements.txt, uv.lock or pylock.toml"
    if lock.name == UV_LOCK or lock.suffix == ".toml":
        _refuse_other_python(lock, advice)
    if lock.name == UV_LOCK:
        only = ("--quiet", "--frozen", "--no-emit-workspace", "--no-header", "--no-annotate")
        text = uv.ask("export", *only, f"--project={lock.absolute().parent}", advice=advice)
        found = _read_pins(text)
    elif lock.suffix == ".toml":
        found = dict(_of_pylock(lock))
    else:
        # Of requirements nobody has promised that they are whole: uv resolves them.
        quiet = ("--quiet", "--no-header", "--no-annotate", f"--python={sys.executable}")
        found = _read_pins(uv.ask("pip", "compile", *quiet, lock, advice=advice))
    if not found:
        raise BadInput(f"{shown(lock)} names no version of a package for this Python; {advice}")
    return found


def _refuse_other_python(lock: Path, advice: str) -> None:
    """Refuse a lock that says it is for other Pythons: uv would read it all the same."""
    try:
        wanted = tomllib.loads(lock.read_text(encoding="utf-8")).get("requires-python", "")
        fits = SpecifierSet(wanted).contains(platform.python_version())
    except (OSError, ValueError, AttributeError):
        return  # whoever reads the rest says what is wrong
    if not fits:
        text = f"{shown(lock)} is for Python {wanted}, and this is {platform.python_version()}"
        raise BadInput(f"{text}; {advice}")


def _of_pylock(lock: Path) -> Iterator[tuple[str, str]]:
    try:
        packages = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
        for package in packages:
            if "version" in package and _applies(package.get("marker", "")):
                yield normalized(package["name"]), package["version"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        text = f"{shown(lock)}: is no pylock.toml ({error!r})"
        raise BadInput(f"{text}; write one with uv export --format pylock.toml") from None


def _without_torch_parts(versions: Mapping[str, str], below: Beneath) -> dict[str, str]:
    """Keep the environment's build of PyTorch where the release is the same one."""
    own = below.packages.versions.get(TORCH, "")
    if versions.get(TORCH, own).partition("+")[0] != own.partition("+")[0]:
        return dict(versions)
    return {n: v for n, v in versions.items() if n != TORCH and not n.startswith(_OF_TORCH)}
