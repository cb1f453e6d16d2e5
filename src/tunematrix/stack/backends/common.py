"""What every backend is: seeds, placement and the allocator of one kind of device."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from tunematrix.errors import Obstacle, Unavailable

SIDE = 64
"""Of the square matrices of ones that `multiply` takes: their products are exact in every dtype."""


class Backend(Protocol):
    """The interface that `configs/backend/*.yaml` name in `implementation._target_`."""

    device: str
    """The framework's name of the device."""
    allocator_method: str
    """How `tracked` measures, for the record."""

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Claim the device, seed everything, fix the threads; return what determines figures.

        Raises:
            Unusable: the device isn't there, or can't be used.
        """

    def facts(self) -> dict[str, Any]:
        """Say what the claimed device is: name, memory_bytes, what drives it."""

    def multiply(self, dtype: str) -> float:
        """Multiply two squares of ones with sides of `SIDE`; return the sum of the product."""

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told to, so that time can be taken."""

    def tracked(self) -> AbstractContextManager[Peak]:
        """Follow the allocator meanwhile; what it yields has the peak once that is over."""


@dataclass
class Peak:
    """The most bytes that were allocated at once, over those at the start."""

    bytes: int = 0


def allocator_peak(backend: Backend, run: Callable[[], object]) -> int:
    """Run `run` and return the peak of bytes it had allocated, over those at its start."""
    with backend.tracked() as peak:
        run()
    return peak.bytes


class TorchBackend(Backend, Protocol):
    """A backend of PyTorch."""

    def trainer_settings(self) -> dict[str, Any]:
        """Return arguments that keep transformers' Trainer on this device."""


class Unusable(Unavailable):
    """A device that can't be claimed."""

    def __init__(self, reason: str, *, present: bool, fix: str, wanted: str) -> None:
        super().__init__(Obstacle(wanted, reason, fix, present=present))


def first_line(*command: str) -> str:
    """Return the first line that a command prints; empty where there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return ended.stdout.strip().partition("\n")[0] if ended.returncode == 0 else ""


def host() -> dict[str, Any]:
    """Name the processor that computes, or shares its memory with the GPU that does."""
    name = first_line("sysctl", "-n", "machdep.cpu.brand_string")
    cpuinfo = Path("/proc/cpuinfo")
    if not name and cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = next(iter(models), "")
    return {"name": name or platform.machine(), "memory_bytes": psutil.virtual_memory().total}
