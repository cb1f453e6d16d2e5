"""The process's peak resident size; the allocator's peak belongs to the backends."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunematrix.evidence.events import Memory

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class ProcessPeak:
    """Where the process stood when the measured stretch began.

    Attributes:
        start: resident bytes then.
        cleared: whether the kernel's high-water mark was set back to them.
    """

    start: int
    cleared: bool

    @classmethod
    def begin(cls) -> ProcessPeak:
        """Set the high-water mark back, where the kernel can (Linux).

        What was freed before is handed back first: kept by malloc, it would hide as much growth.
        """
        gc.collect()
        hand_back()
        try:
            CLEAR.write_text("5")
        except OSError:
            return cls(start=_high_water(), cleared=False)
        return cls(start=_status("VmRSS"), cleared=True)

    def end(self) -> Memory:
        """Read the growth of the peak since `begin`."""
        if self.cleared:
            return Memory("process_peak", _status("VmHWM") - self.start, "VmHWM, cleared")
        return Memory("process_peak", _high_water() - self.start, "ru_maxrss, growth")


def hand_back() -> None:
    """Give freed memory back to the system, where malloc can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc alone has it


def _status(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    message = f"{STATUS} has no {field}"
    raise OSError(message)


def _high_water() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
