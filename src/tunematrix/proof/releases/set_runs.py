"""Runs the suite over sets of releases: `python -m tunematrix.proof.releases.set_runs run [SET …]`.

From the first option on, arguments go to pytest. `page FILE` writes the table into a page. For a
checkout: `nox -s release-sets` does both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from tunematrix.environments import uv
from tunematrix.environments.interpreter import look_at
from tunematrix.environments.table import YOURS
from tunematrix.errors import BadInput, ExitCode, TunematrixError
from tunematrix.paths import STATE, shown, state
from tunematrix.proof.releases.sets import (
    Part,
    Sets,
    keep,
    outcomes_of,
    read_kept,
    read_sets,
    table,
)
from tunematrix.report.saying import complain, say
from tunematrix.report.verified import placed
from tunematrix.results.store import Store

PAGE = "docs/releases.md"
PLACE = "release sets"
"""Names the table's place in the page."""
KEPT: Mapping[tuple[str, ...], Part] = {(): "all", ("-m", "smoke"): "smoke"}
"""Arguments of pytest whose outcomes are kept; what others leave out, nobody could tell."""


def run_all(root: Path, arguments: Sequence[str]) -> int:
    """Run the suite over each set, one after the other; return the worst exit code.

    Args:
        root: of the checkout. arguments: names of sets, then options of pytest.

    Raises:
        BadInput: there is no such set, or it can't be built.
    """
    sets = read_sets(root)
    names, others = split(arguments)
    codes = [_run(sets, name, others) for name in sets.chosen(names)]
    if tuple(others) in KEPT:
        write_page(root, root / PAGE)
    say(table(sets, read_kept(root)))
    return max(codes)


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of sets, which come first, and what is for pytest."""
    names = [*takewhile(lambda one: not one.startswith("-"), arguments)]
    return names, arguments[len(names) :]


def _run(sets: Sets, name: str, arguments: Sequence[str]) -> int:
    folder = state(sets.root).resolve() / "release-sets" / name
    complain(f"{name}: {sets.named[name].about}")
    python = build(sets, name, folder / "set")
    environment = sets.named[name].environment
    prove = [sys.executable, "-m", "tunematrix", "prove", f"--environment={environment}"]
    command = [*prove, f"--python={python}", *arguments]
    ended = subprocess.run(
        command, cwd=sets.root, env={**os.environ, STATE: str(folder)}, check=False
    )
    part = KEPT.get(tuple(arguments))
    if part and ended.returncode in (ExitCode.PASSED, ExitCode.FAILED):
        records = Store(folder / f"{environment}-{YOURS}" / "results.jsonl").newest()
        keep(sets.root, name, outcomes_of(records, look_at(python).packages, part))
    return ended.returncode


def build(sets: Sets, name: str, virtualenv: Path) -> Path:
    """Make a virtualenv with a set, unless it is there, and return its Python.

    Raises:
        BadInput: uv can't have it; the text ends with its reason.
    """
    python, stamp = virtualenv / "bin" / "python", virtualenv / "tunematrix-build"
    pins = sets.pins(name).read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == pins:
        return python
    advice = f"The set is {shown(sets.pins(name))}, for Linux on x86_64"
    wanted = f"--python={sets.named[name].python}"
    uv.ask("venv", "--quiet", "--clear", wanted, virtualenv, advice=advice)
    # As constraints: PyTorch's builds for CPUs, where an index has them, bring no CUDA.
    install = ("pip", "install", "--quiet", f"--python={python}", "-c", sets.pins(name))
    uv.ask(*install, *sets.required(name), advice=advice)
    stamp.write_text(pins, encoding="utf-8")
    return python


def write_page(root: Path, page: Path) -> None:
    """Write the table into its place in a page.

    Raises:
        BadInput: the page has no such place.
    """
    text = page.read_text(encoding="utf-8")
    page.write_text(placed(table(read_sets(root), read_kept(root)), text, PLACE), encoding="utf-8")


def _main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["run", *others]:
            return run_all(Path.cwd(), others)
        case ["page", page]:
            write_page(Path.cwd(), Path(page))
            return ExitCode.PASSED
    raise BadInput("write run [SET …] or page FILE")


if __name__ == "__main__":
    try:
        sys.exit(_main(sys.argv[1:]))
    except TunematrixError as problem:
        sys.exit(str(problem))
