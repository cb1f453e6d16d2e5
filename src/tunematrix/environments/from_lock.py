"""A user's lock → a virtualenv of ours with exactly its versions; uv does the work."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tunematrix.environments import locks, sources, uv
from tunematrix.environments.interpreter import Interpreter, look_at
from tunematrix.errors import BadInput
from tunematrix.paths import shown

UV_LOCK = "uv.lock"
"""What uv calls the lock of a project."""
_INCLUDED = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]+(\S+)")


def built(
    lock: Path,
    python: Interpreter,
    virtualenv: Path,
    say: Callable[[str], None],
    parts: Sequence[str] = (),
) -> Path:
    """Return the Python of a virtualenv that holds what a lock names, built if need be.

    Args:
        lock: requirements.txt, uv.lock, or a pylock.toml.
        python: what it is built with. virtualenv: its folder.
        say: takes a line of progress.
        parts: groups and extras of it that count too, as uv's options.

    Raises:
        BadInput: the lock can't be read, doesn't resolve, has no such part, or isn't for this
            platform or Python.
        MachineProblem: there is no uv.
    """
    text = "\n".join(_lines(lock))
    found, stamp = virtualenv / "bin" / "python", virtualenv / "tunematrix-build"
    facts = [text, str(lock.absolute()), python.base, python.version, parts]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return found
    say(f"Installing what {shown(lock)} names into {shown(virtualenv)}")
    shutil.rmtree(virtualenv, ignore_errors=True)
    uv.ask("venv", "--quiet", f"--python={python.base}", virtualenv, advice=_advice(lock, python))
    for line in _install(lock, python, found, parts):
        say(line)
    if not look_at(found).packages:
        message = f"{shown(lock)} names no package for this platform"
        raise BadInput(
            f"{message}, {sys.platform} on {platform.machine()}.\n  {_advice(lock, python)}"
        )
    stamp.write_text(digest, encoding="utf-8")
    return found


def _install(lock: Path, python: Interpreter, program: Path, parts: Sequence[str]) -> list[str]:
    """Install a lock; return a line about packages that it didn't name and that it needs."""
    advice = _advice(lock, python)
    target = ("--quiet", f"--python={program}")
    if lock.name == UV_LOCK:
        _install_project(lock, program, parts, advice)
        return []
    if lock.suffix == ".toml":
        uv.ask("pip", "sync", *target, *parts, lock, advice=advice)
        return []
    if parts:
        message = f"{shown(lock)} has neither groups nor extras, so {' '.join(parts)} names none"
        raise BadInput(f"{message}; name a uv.lock or a pylock.toml, or leave it out")
    # Of requirements, nobody has promised that they are whole: uv resolves them.
    uv.ask("pip", "install", *target, "-r", lock, advice=advice)
    there = look_at(program).packages
    asked = set(_pinned(_lines(lock)))
    free = [f"{name} {version}" for name, version in there.items() if name not in asked]
    return [f"Not pinned in {shown(lock)}, so uv chose: {', '.join(free)}"] if free else []


def _install_project(lock: Path, program: Path, parts: Sequence[str], advice: str) -> None:
    """Install what the lock of a project of uv lists."""
    # The project itself stays out: building it could write to its folder.
    only = ("--quiet", "--frozen", "--no-emit-workspace", "--no-header")
    export = ("export", *only, *parts, f"--project={lock.absolute().parent}", f"--python={program}")
    unread = f"Likely {shown(lock)} is damaged, or a group is misspelt; `uv lock` writes it anew"

    def exported(name: str) -> Path:
        there = program.parents[1] / name
        uv.ask(*export, f"--output-file={there}", advice=unread)
        return there

    def sync(there: Path) -> None:
        uv.ask("pip", "sync", "--quiet", f"--python={program}", there, advice=advice)

    plain = exported("exported.txt")
    try:
        sync(plain)  # from the indexes of this machine, which may be mirrors
    except (BadInput, uv.IndexAway) as first:
        # A pylock.toml names its own, and uv goes there whatever it is told of indexes.
        if sources.without_index(sources.pip_settings()):
            raise
        try:
            sync(exported("pylock.toml"))  # one of the lock's own may be for a single package
        except (BadInput, uv.IndexAway) as second:
            raise type(first)(f"{first}\n  from the lock's own indexes: {second}") from None


def _lines(lock: Path) -> Iterator[str]:
    """Yield the lines of a lock, and of other files of requirements that it names.

    Raises:
        BadInput: one of them can't be read.
    """
    advice = "name a requirements.txt, uv.lock or pylock.toml"
    # A pipe can be read once alone, and a device may never end.
    if lock.exists() and not lock.is_file():
        raise BadInput(f"{shown(lock)} is no file, but a folder, a pipe or a device; {advice}")
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(lock)}: can't be read: {error}; {advice}") from None
    for line in text.splitlines():
        yield line
        if more := _INCLUDED.match(line):
            yield from _lines(lock.parent / more[1])


def _pinned(lines: Iterable[str]) -> Iterator[str]:
    """Yield the names of requirements that leave no choice."""
    for line in lines:
        # Without comments, hashes, and the sign that the next line goes on.
        text = re.split(r"\s#|\s--|\s*\\$", line)[0].strip()
        with suppress(InvalidRequirement):
            wanted = Requirement(text)
            if wanted.url or any(one.operator in ("==", "===") for one in wanted.specifier):
                yield locks.normalized(wanted.name)


def _advice(lock: Path, python: Interpreter) -> str:
    version = "{}.{}".format(*python.version)
    return f"""{shown(lock)} was to be installed for Python {version} here. Likely causes:
  it was made for another Python (name that with --python) or for another platform; its versions
  don't fit together; or a package index that it needs can't be reached (UV_INDEX names another), or
  refuses its user or password: then uv finds no version there.
  If you have a virtualenv that works, prove that: tunematrix prove --python PATH"""
