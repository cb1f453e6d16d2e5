"""How many cells a machine has room for: by its cores and free memory, or by its container's."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what this container may use of the machine."""
GIGABYTES = 2.0
"""What a forked cell may take of memory, beside the libraries that all cells share."""
CELLS_ON_A_GPU = 4
"""How many processes share one device unless `-n` says otherwise."""


def cells_at_once(asked: int | None, *, gpu: bool) -> int:
    """Return how many cells run at a time: as many as asked for, or as the machine has room for.

    Args:
        asked: what `-n` says; 0 and 1 are one after the other.
        gpu: whether they share a GPU, whose memory isn't the machine's.
    """
    if asked is not None:
        return max(1, asked)
    room = places(GIGABYTES)
    return min(room, CELLS_ON_A_GPU) if gpu else room


def places(gigabytes: float, cgroup: Path = CGROUP) -> int:
    """Return how many processes may run side by side, at least one.

    Args:
        gigabytes: what each takes of memory, in units of 10^9 bytes.
        cgroup: a folder with cpu.max, memory.max and memory.current, where there are such limits.
    """
    memory = min(psutil.virtual_memory().available, _free_memory(cgroup))
    return max(1, min(_cores(cgroup), int(memory / (gigabytes * 1e9))))


def _cores(cgroup: Path) -> int:
    """The cores that this process may run on, and that its container is given the time of."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else psutil.cpu_count() or 1
    match _words(cgroup / "cpu.max"):
        case [quota, period] if quota != "max":
            return min(cores, math.ceil(int(quota) / int(period)))
    return cores


def _free_memory(cgroup: Path) -> float:
    """The bytes that the container may still take."""
    match _words(cgroup / "memory.max"), _words(cgroup / "memory.current"):
        case [limit], [current] if limit != "max":
            return int(limit) - int(current)
    return math.inf


def _words(path: Path) -> list[str]:
    """What a file of the kernel says; nothing where there is none."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
