"""Peaks of memory around a stretch of code, on whatever backend it computes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tunematrix.testing import backends


@dataclass
class MemoryUse:
    """Peaks over what was in use at the start, in bytes; nan, below no bound, until it is over.

    Attributes:
        allocator_peak: of the framework's allocator; None where it wasn't asked for.
        process_peak: of the process's resident size.
    """

    allocator_peak: float | None = math.nan
    process_peak: float = math.nan


@contextmanager
def track_memory(backend: str = "cpu", *, allocator: bool = True) -> Iterator[MemoryUse]:
    """Follow memory meanwhile: transient peaks count, and not only what is left at the end.

    Args:
        backend: "cpu", "cuda", "mps" or "mlx".
        allocator: whether to follow the allocator. On the CPU PyTorch's profiler does that, which
            takes time, and memory that belongs to the process: leave it out to see that alone.

    Raises:
        BadInput: there is no such backend.
    """
    from tunematrix.stack.backends.common import Peak
    from tunematrix.stack.yardsticks.process_memory import ProcessPeak

    use = MemoryUse(allocator_peak=math.nan if allocator else None)
    tracked = backends.backend(backend).tracked() if allocator else nullcontext(Peak())
    start = ProcessPeak.begin()
    with tracked as peak:
        yield use
        use.process_peak = start.end().bytes
    if allocator:
        use.allocator_peak = peak.bytes
