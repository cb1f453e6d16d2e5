"""How far a run in another process is: a line every few seconds, with the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 10.0
"""Seconds between two looks."""
SILENT = 6
"""Looks at the same count until it is told again."""


@contextmanager
def told_progress(
    done: Callable[[], int], total: int, say: Callable[[str], None], every: float = EVERY
) -> Iterator[None]:
    """Say now and then how much is done, while the block runs.

    Args:
        done: returns how many of `total` are. say: takes a line. every: seconds between two looks.
    """
    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        told, silent = 0, 0
        while not ended.wait(every):
            count, silent = done(), silent + 1
            if count != told or silent == SILENT:
                say(progress_line(count, total, time.monotonic() - began))
                told, silent = count, 0

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def progress_line(done: int, total: int, seconds: float) -> str:
    """Return how much is done after so many seconds, and, from the first on, what is left."""
    if not done or done >= total:
        return f"  {done} of {total} done"
    left = seconds / done * (total - done)
    return f"  {done} of {total} done, about {left:.0f} s left"
