"""What the probe wrote in each process of a command, as the dataclasses that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from tunematrix.evidence.files import read_bounded
from tunematrix.evidence.lines import rebuilt
from tunematrix.probe.tunematrix_probe.records import (
    RECORDS,
    ProbeEnded,
    ProbeStarted,
    SeenStep,
)

LARGEST = 1_000_000_000
"""Bytes of one process's file that are read; a step takes about a thousand."""
_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in RECORDS}

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class WatchedProcess:
    """One process that imported PyTorch.

    Attributes:
        records: what the probe wrote in it, in order.
        unreadable: lines that are nothing the probe writes, or the want of a file that can be read;
            a last line that was cut off isn't among them.
    """

    records: tuple[object, ...]
    unreadable: int = 0

    def one(self, kind: type[Seen]) -> Seen | None:
        """The last record of this kind, None when there is none."""
        return next((one for one in reversed(self.records) if isinstance(one, kind)), None)

    def all(self, kind: type[Seen]) -> tuple[Seen, ...]:
        """All records of this kind, in order."""
        return tuple(one for one in self.records if isinstance(one, kind))

    @cached_property
    def has_stepped(self) -> bool:
        """Whether an optimizer has made a step in it."""
        return any(isinstance(one, SeenStep) for one in self.records)

    @property
    def rank(self) -> int:
        """Which of the processes that train together it is, from 0."""
        started = self.one(ProbeStarted)
        return 0 if started is None or started.rank is None else started.rank

    @property
    def end(self) -> Literal["", "exit", "exception", "stopped"] | str:
        """How it ended; empty where it was killed, or replaced itself by another program."""
        ended = self.one(ProbeEnded)
        return "" if ended is None else ended.how


def read_probes(folder: Path) -> tuple[WatchedProcess, ...]:
    """Read what the probe wrote, by rank and then by the time at which processes began.

    A line that was cut off by the end of its process is left out; so is what can't be read, and
    counted. There is no folder where nothing imported PyTorch.
    """
    processes = [_process(path) for path in sorted(folder.glob("*.jsonl"))]
    return tuple(sorted(processes, key=lambda one: (one.rank, _began(one))))


def _began(process: WatchedProcess) -> float:
    started = process.one(ProbeStarted)
    return 0.0 if started is None else started.began


def _process(path: Path) -> WatchedProcess:
    try:
        *lines, _torn = read_bounded(path, LARGEST).split(b"\n")
    except OSError:
        return WatchedProcess((), unreadable=1)
    records, unreadable = [], 0
    for line in lines:
        try:
            records.append(rebuilt(line, _KINDS))
        except (ValueError, TypeError, KeyError, AttributeError):
            unreadable += 1
    return WatchedProcess(tuple(records), unreadable)
