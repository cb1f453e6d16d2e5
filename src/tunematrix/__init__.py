"""tunematrix: a test suite that shows whether LLM fine-tuning works on a machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunematrix.watching.here import WatchedBlock

__all__ = ["watch"]


def watch(
    *, device: str | None = None, strict: bool = False, quiet: bool = False
) -> AbstractContextManager[WatchedBlock]:
    """Watch the training in a `with` block, and print the verdicts when it ends.

    Example: `with tunematrix.watch() as seen: trainer.train()`; then `seen.failed` has the names of
    the checks that failed. What the block raises goes on; nothing is judged then.

    Args:
        device: kind of device that what is trained must be on: "cuda", "mps" or "cpu"; None: any.
        strict: whether the check `watched` fails, and doesn't only warn, where a part of the probe
            itself falls over.
        quiet: whether nothing is printed.

    Raises:
        BadInput: there is no such kind of device; it is raised before the block.
    """
    from tunematrix.watching.here import watching

    return watching(device=device, strict=strict, quiet=quiet)
