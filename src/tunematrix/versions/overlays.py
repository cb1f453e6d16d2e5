"""Pins → a folder that holds just those releases, for the front of a process's path.

The environment beneath stays as it is: what isn't pinned comes from there. A folder is named after
what it holds, so that it is made once; one whose making was interrupted is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunematrix.environments import sources
from tunematrix.environments.locks import normalized
from tunematrix.environments.uv import is_unreachable, last_words
from tunematrix.errors import MachineProblem
from tunematrix.paths import locked, shown, state
from tunematrix.run.local.process_tree import die_with_parent
from tunematrix.versions.damage import damage
from tunematrix.versions.room import NO_SPACE, bounded, in_use, is_full, limit

Pins = Mapping[str, str]
"""Distribution to its one version."""
LEADING = ("transformers", "trl", "peft", "torchao", "hqq")
"""Distributions whose releases tell rows apart, the weightiest first."""


class NotInstalled(MachineProblem):
    """An overlay can't be had; the text is the installer's own reason."""


class IndexUnreachable(NotInstalled):
    """An overlay can't be had now, since an index can't be reached: it may be later."""


def overlay(pins: Pins, cache: Path, say: Callable[[str], None]) -> Path:
    """Return the folder with these pins, which is made where there is none yet.

    Args:
        pins: what it holds. cache: where overlays are kept. say: takes a line of progress.

    Raises:
        NotInstalled: it can't be made, or its files aren't what their packages say.
    """
    folder = cache / digest(pins)
    with locked(cache / f"{folder.name}.lock"):
        if folder.exists() and (problem := damage(pins, folder)):
            say(f"{shown(folder)} is damaged ({problem}), so it is made again")
            shutil.rmtree(folder)
        if not folder.exists():
            say(f"installing {told(pins)}")
            draft = cache / f"{folder.name}.unfinished"
            shutil.rmtree(draft, ignore_errors=True)
            _install(pins, draft)
            draft.rename(folder)
    return folder


@contextmanager
def lent(pins: Pins, root: Path, say: Callable[[str], None]) -> Iterator[Path | None]:
    """Yield a project's folder with these pins, which nobody removes meanwhile; None for no pins.

    Where it is new, others that weren't used for long may go, and what all take is said.

    Raises:
        NotInstalled: it can't be made. MachineProblem: there is no space for it.
    """
    if not pins:
        yield None
        return
    cache = folder_of(root)
    is_new = not (cache / digest(pins)).exists()
    while True:
        folder = overlay(pins, cache, say)
        with in_use(folder):
            if folder.exists():  # it may have been removed between the two
                if is_new:
                    say(str(bounded(cache, limit(root))))
                yield folder
                return


def folder_of(root: Path) -> Path:
    """Return where a project's overlays are kept."""
    return state(root) / "overlays"


def digest(pins: Pins) -> str:
    """Return a short name for what an overlay holds, on this Python and this kind of machine."""
    ordered = sorted((normalized(name), version) for name, version in pins.items())
    what = [ordered, platform.python_version(), platform.system(), platform.machine()]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def told(pins: Pins) -> str:
    """Name the releases that matter, and how many others only have to fit them."""
    leading = [f"{name} {pins[name]}" for name in LEADING if name in pins]
    others = len(pins) - len(leading)
    names = leading or [f"{name} {version}" for name, version in pins.items()]
    return " ".join([*names, f"and {others} more"] if leading and others else names)


def _install(pins: Pins, folder: Path) -> None:
    settings = sources.pip_settings()
    requirements = [f"{name}=={version}" for name, version in pins.items()]
    options = ["--no-index"] if sources.without_index(settings) else []
    command = [*_installer(folder), *options, *requirements]
    environment = {**os.environ, **sources.as_uv(settings, os.environ)}
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        preexec_fn=die_with_parent,  # or it would write on, into the folder of the next attempt
    )
    if ended.returncode != 0:
        reason = last_words(ended.stderr or ended.stdout)
        if is_full(folder.parent, reason):
            shutil.rmtree(folder, ignore_errors=True)
            raise MachineProblem(f"{shown(folder.parent)}: {NO_SPACE}:\n  {reason}")
        raise (IndexUnreachable if is_unreachable(reason) else NotInstalled)(reason)
    if problem := damage(pins, folder):
        text = f"the installer reports success, but {problem}"
        raise NotInstalled(f"{text}; its cache may be damaged: uv cache clean, then try again")


def _installer(folder: Path) -> Sequence[str]:
    """Return the command that installs into a folder: uv's where there is one, else pip's."""
    uv = shutil.which("uv")
    if uv is not None:
        start = [uv, "pip", "install", f"--python={sys.executable}", "--no-progress"]
    elif python := _with_pip():
        start = [python, "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    else:
        raise NotInstalled('there is neither uv nor pip: python -m pip install "nox[uv]"')
    return [*start, f"--target={folder}", "--no-deps"]


def _with_pip() -> str | None:
    """Return a Python with pip: this one, or the one that its virtualenv was made from."""
    for python in (Path(sys.executable), Path(sys.base_prefix) / "bin" / "python3"):
        command = [str(python), "-m", "pip", "--version"]
        if python.exists() and not subprocess.run(command, capture_output=True).returncode:
            return str(python)
    return None


def paths(folder: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables under which a process finds an overlay's releases first."""
    before = environment.get("PYTHONPATH", "")
    parts = [str(folder)] if folder is not None else []
    return {"PYTHONPATH": os.pathsep.join([*parts, *([before] if before else [])])}
