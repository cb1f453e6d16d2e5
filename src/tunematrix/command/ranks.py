"""The several processes of a command: how many there were, and which is to blame for their end."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunematrix.command.guarded import Outcome
from tunematrix.command.invocation import Invocation, rank_log
from tunematrix.configuration.trainer import named
from tunematrix.errors import ending
from tunematrix.evidence.events import Launched, RankEnded
from tunematrix.run.ranks import CUT_OFF, LAST_LINES

_TAIL_BYTES = 64_000
_STACK = "(most recent call first):"
_RAISED = "Traceback (most recent call last):"
_FATAL = "Fatal Python error: "
_NO_FRAME = "<no Python frame>"
_WAITS = ("torch/distributed/", "torch/autograd/graph.py", "multiprocessing/")
# What torchrun says of the process that failed first.
_ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.S)


@dataclass(frozen=True)
class _LastWords:
    """What one process said at its end."""

    rank: int
    text: str

    @property
    def raised(self) -> bool:
        return _RAISED in self.text and not any(sign in self.text for sign in CUT_OFF)

    @property
    def hangs(self) -> bool:
        """Whether it was told to say where it is, and isn't waiting for the others."""
        stack = self.text.rpartition(_STACK)[2] if _STACK in self.text else ""
        return bool(stack) and not any(place in stack for place in _WAITS)

    @property
    def last_lines(self) -> tuple[str, ...]:
        text = self._up_to_its_end if self.raised else self.text
        if _STACK in text:
            lines = text.rpartition(_STACK)[2].split("\n")[1:][:LAST_LINES]
        else:
            lines = text.strip().split("\n")[-LAST_LINES:]
        return tuple(line.strip() for line in lines if line.strip())

    @property
    def _up_to_its_end(self) -> str:
        """What it said before a library aborted after the end of all Python code."""
        said, _, dump = self.text.rpartition(_FATAL)
        return said if _NO_FRAME in dump else self.text


def blamed(invocation: Invocation, outcome: Outcome) -> RankEnded | None:
    """Return the process to blame for an end that wasn't a good one; None where nobody can say."""
    count = invocation.processes
    traces = [_LastWords(rank, _tail(invocation.rank_logs, rank)) for rank in range(count)]
    raised = next((trace for trace in traces if trace.raised), None)
    if outcome.timed_out:
        return _hanging([trace for trace in traces if trace.hangs], count)
    if raised is not None:
        return _ended(raised, count, "raised an exception")
    if invocation.config.launcher.starts_each and outcome.failed:
        rank = outcome.failed[0]
        return _ended(traces[rank], count, ending(outcome.codes[rank] or 0))
    found = _ROOT_CAUSE.search(tail(invocation.run_dir.stderr))
    if found and int(found[1]) < count:
        return _ended(traces[int(found[1])], count, ending(int(found[2])))
    return None


def launched_by(invocation: Invocation, outcome: Outcome) -> Launched | None:
    """Return how many of several processes really trained together; None where nothing tells.

    Both ways may count too many, and neither too few.
    """
    wanted = invocation.processes
    if wanted < 2:
        return None
    found = {
        "processes with a log of their own": _with_a_log(invocation),
        "WORLD_SIZE of the innermost processes": outcome.world,
    }
    known = [Launched(count, wanted, way) for way, count in found.items() if count is not None]
    return min(known, key=lambda one: one.processes, default=None)


def _with_a_log(invocation: Invocation) -> int | None:
    """Return how many processes a launcher has kept a log of; None where it isn't told to.

    It makes the file before it starts the process, so one that lives for a moment has one as well.
    """
    folder = invocation.rank_logs
    if "rank_logs" not in named(invocation.config.launcher.command):
        return None
    ranks = range(invocation.processes)
    count = sum(rank_log(folder, rank, "stderr") is not None for rank in ranks)
    is_laid_out_otherwise = not count and any(path.is_file() for path in folder.rglob("*"))
    return None if is_laid_out_otherwise else count


def _hanging(found: Sequence[_LastWords], count: int) -> RankEnded | None:
    """Return the one process that doesn't wait for others; all of them where there are several."""
    if not found:
        return None
    if len(found) == 1:
        return _ended(found[0], count, "kept the others waiting until the time was over")
    lines = tuple(f"rank {trace.rank}: {trace.last_lines[0]}" for trace in found)
    return RankEnded(None, count, "processes were still at work when the time was over", lines)


def gather(invocation: Invocation) -> None:
    """Put the last of what each process that we started said as errors into the cell's stderr."""
    if not invocation.config.launcher.starts_each:
        return
    with invocation.run_dir.stderr.open("a", encoding="utf-8") as whole:
        for rank in range(invocation.processes):
            for line in _tail(invocation.rank_logs, rank).splitlines():
                whole.write(f"[rank {rank}] {line}\n")


def tail(path: Path) -> str:
    """Return the end of a log, however long it is; nothing where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _tail(folder: Path, rank: int) -> str:
    path = rank_log(folder, rank, "stderr")
    return "" if path is None else tail(path)


def _ended(trace: _LastWords, count: int, how: str) -> RankEnded:
    return RankEnded(trace.rank, count, how, trace.last_lines)
