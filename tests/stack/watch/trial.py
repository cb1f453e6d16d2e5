"""The trial of `tunematrix watch`: silent errors that it must name, honest runs that it must pass.

    nox -s watch-trial [-- -k WORD --jobs 2]

A loop's script is copied, edited, and run as its user would: in a process of its own, by the Python
of the virtualenv that has its libraries. The last lines are the score.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.watch.honest import HONEST, Honest
from tests.stack.watch.planted import PLANTED
from tests.stack.watch.planting import Planted

LOOPS = Path(__file__).parent / "loops"
HELPER = "odd_common.py"
"""What some loops import, so that it has to lie beside them."""
PREFIX = "watched_"
NOTICED = ("failed", "warned")
WEIGHTS = (".pt", ".safetensors", ".bin", ".ckpt", ".pth")
SECONDS = 300
"""For a run; the slowest takes about 30 s on a busy machine."""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True)
class Where:
    """Where a trial takes place.

    Attributes:
        world: the folder that `world` has made; out: for scripts, records and what is saved.
        python: that of the loops' virtualenv.
    """

    world: Path
    out: Path
    python: str


@dataclass(frozen=True)
class Seen:
    """What came of a run.

    Attributes:
        failed, warned: checks, without their prefix; outcome: of its record, or `broken`.
        told: their messages; seconds: of it all; exit: of the command.
    """

    failed: frozenset[str] = frozenset()
    warned: frozenset[str] = frozenset()
    outcome: str = "broken"
    told: tuple[str, ...] = ()
    seconds: float = 0.0


def made_world(folder: Path) -> Path:
    """Make what the loops read, unless it is there."""
    if not (folder / "data" / "dpo").is_dir():
        subprocess.run([sys.executable, "-m", "tests.stack.watch.world", str(folder)], check=True)
    return folder


def script_of(run: Planted | Honest, folder: Path) -> Path:
    """Write a run's script, edited, into a folder.

    Raises:
        ValueError: an edit's text doesn't stand in the loop, or not once.
    """
    text = (LOOPS / f"{run.loop}.py").read_text(encoding="utf-8")
    for edit in run.edits:
        if text.count(edit.old) != 1:
            raise ValueError(f"{run.name}: stands {text.count(edit.old)} times: {edit.old!r}")
        text = text.replace(edit.old, edit.new)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(LOOPS / HELPER, folder)
    path = folder / f"{run.loop}.py"
    path.write_text(text, encoding="utf-8")
    return path


def command_of(run: Planted | Honest, where: Where, folder: Path) -> list[str]:
    """Return the command that its user would give."""
    launcher = [where.python]
    if run.ranks:
        port = ["--standalone", "--nproc-per-node", str(run.ranks)]
        launcher = [where.python, "-m", "torch.distributed.run", *port]
    script = str(script_of(run, folder))
    return [*launcher, script, str(where.world), str(folder / "out"), *run.arguments]


def watch(run: Planted | Honest, where: Where) -> Seen:
    """Run it under the probe."""
    folder = where.out / run.name
    shutil.rmtree(folder, ignore_errors=True)
    command = command_of(run, where, folder)
    options = ["--json", "--timeout", str(SECONDS), "--output", str(folder / "watched"), "--"]
    words = [sys.executable, "-m", "tunematrix", "watch", *options, *command]
    began = time.monotonic()
    end = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | QUIET,
        timeout=2 * SECONDS,
    )
    (folder / "stderr.txt").write_text(end.stderr, encoding="utf-8")
    (folder / "stdout.txt").write_text(end.stdout, encoding="utf-8")
    return seen_in(end.stdout, end.stderr, time.monotonic() - began)


@dataclass(frozen=True)
class Left:
    """What a run leaves: its exit code, what it printed, and a digest of each file of weights."""

    exit: int
    printed: str
    saved: tuple[tuple[str, str], ...]


def alone(run: Planted | Honest, where: Where) -> Left:
    """Run it without tunematrix, into a folder beside."""
    folder = where.out / f"{run.name}-alone"
    shutil.rmtree(folder, ignore_errors=True)
    end = subprocess.run(
        command_of(run, where, folder),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | QUIET,
        timeout=SECONDS,
    )
    (folder / "stderr.txt").write_text(end.stderr, encoding="utf-8")
    return Left(end.returncode, timeless(end.stdout), saved_in(folder / "out"))


def left_by(run: Planted | Honest, where: Where) -> Left:
    """Return what the run that was watched has left, as `alone` does."""
    folder = where.out / run.name
    (log,) = (folder / "watched").rglob("stdout.log")
    return Left(0, timeless(log.read_text(encoding="utf-8")), saved_in(folder / "out"))


def timeless(printed: str) -> str:
    """Leave out of what was printed lines that name times, which differ from run to run."""
    lines = printed.splitlines()
    return "\n".join(line for line in lines if "runtime" not in line and "[Gloo]" not in line)


def saved_in(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return a digest of each file of weights below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in WEIGHTS)
    digests = (hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in found)
    names = (str(path.relative_to(folder)) for path in found)
    return tuple(zip(names, digests, strict=True))


def seen_in(stdout: str, stderr: str, seconds: float) -> Seen:
    """Read the record that `watch --json` prints."""
    try:
        record: dict[str, Any] = json.loads(stdout)
    except ValueError:
        return Seen(told=tuple((stdout + stderr).splitlines()[-3:]), seconds=seconds)
    checks: list[dict[str, Any]] = record["checks"]
    named = {outcome: _names(checks, outcome) for outcome in ("failed", "warned")}
    told = tuple(
        f"{check['name']} {check['outcome']}: {check['message']}"
        for check in checks
        if check["outcome"] in named
    )
    return Seen(named["failed"], named["warned"], record["outcome"], told, seconds)


def _names(checks: Iterable[dict[str, Any]], outcome: str) -> frozenset[str]:
    return frozenset(
        check["name"].removeprefix(PREFIX) for check in checks if check["outcome"] == outcome
    )


def verdict(run: Planted | Honest, seen: Seen) -> str:
    """Say in a word what that means."""
    if seen.outcome == "broken" or {"exit", "watched"} & seen.failed:
        return "broken"
    if isinstance(run, Honest):
        return "false alarm" if seen.failed else "quiet"
    if seen.failed & set(run.checks):
        return "failed"
    if seen.warned & set(run.checks):
        return "warned"
    return "another check" if seen.failed else "missed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all that are asked for and print the score; 0 if nothing is missed or told wrongly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--world", type=Path, help="that is there already")
    parser.add_argument("--out", type=Path, default=Path(".tunematrix/watch-trial"))
    parser.add_argument("--python", default=sys.executable, help="of the loops' virtualenv")
    parser.add_argument(
        "-k", dest="word", default="", help="in the name of a run or its loop; several with commas"
    )
    parser.add_argument("--only", choices=("planted", "honest"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="without tunematrix: do all end well?")
    parser.add_argument(
        "--equal", action="store_true", help="with and without: do all leave the same?"
    )
    options = parser.parse_args(arguments)
    world = options.world or made_world(options.out / "world")
    where = Where(world.resolve(), options.out.resolve(), options.python)
    runs: list[Planted | Honest] = []
    runs += PLANTED if options.only != "honest" else ()
    runs += HONEST if options.only != "planted" else ()
    words = options.word.split(",")
    runs = [run for run in runs if any(word in f"{run.name} {run.loop}" for word in words)]
    if not runs:
        parser.error(f"-k {options.word}: no run and no loop is called so")
    if options.alone or options.equal:
        return max(_compared(run, where, both=options.equal) for run in runs)
    with ThreadPoolExecutor(options.jobs) as pool:
        seen = list(pool.map(lambda run: _shown(run, where), runs))
    return _score(runs, seen)


def _shown(run: Planted | Honest, where: Where) -> Seen:
    seen = watch(run, where)
    expected = f" expected {'/'.join(run.checks)}" if isinstance(run, Planted) else ""
    print(f"{verdict(run, seen):13} {run.loop}/{run.name}{expected}  ({seen.seconds:.0f} s)")
    for line in seen.told:
        print(f"      {line}")
    sys.stdout.flush()
    return seen


def _compared(run: Planted | Honest, where: Where, *, both: bool) -> int:
    """Run one alone, and watched if `both`; 1 unless it ends well and leaves the same."""
    left = alone(run, where)
    word = "" if left.exit == 0 else f"ended with {left.exit}"
    if both and not word:
        watch(run, where)
        other = left_by(run, where)
        word = "" if other.printed == left.printed else "printed something else"
        word += "" if other.saved == left.saved else " saved something else"
    print(
        f"{word or 'well':24} {run.loop}/{run.name}: {left.printed.splitlines()[-1:]}", flush=True
    )
    return int(bool(word))


def _score(runs: Sequence[Planted | Honest], seen: Sequence[Seen]) -> int:
    words = [verdict(run, one) for run, one in zip(runs, seen, strict=True)]
    planted = [word for run, word in zip(runs, words, strict=True) if isinstance(run, Planted)]
    honest = [word for run, word in zip(runs, words, strict=True) if isinstance(run, Honest)]
    noticed = sum(word in NOTICED for word in planted)
    quiet = honest.count("quiet")
    print(
        f"noticed by the right check: {noticed} of {len(planted)} ({planted.count('failed')} red)"
    )
    print(f"honest runs without a red check: {quiet} of {len(honest)}")
    wrong = [run.name for run, word in zip(runs, words, strict=True) if not is_right(run, word)]
    print(f"wrong: {', '.join(wrong) or 'none'}")
    return int(bool(wrong))


def is_right(run: Planted | Honest, word: str) -> bool:
    """Whether a verdict is what it has to be."""
    if isinstance(run, Honest):
        return word == "quiet"
    return word in NOTICED or (word == "missed" and bool(run.why_not))


if __name__ == "__main__":
    raise SystemExit(main())
