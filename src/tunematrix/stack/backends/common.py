"""What every backend is: seeds, placement and the allocator of one kind of device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Backend(Protocol):
    """The interface that `configs/backend/*.yaml` name in `implementation._target_`."""

    device: str
    """PyTorch's name of the device."""
    allocator_method: str
    """How `allocator_peak` is measured, for the record."""

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Seed everything and fix the threads; return what now determines the figures."""

    def trainer_settings(self) -> dict[str, Any]:
        """Return arguments that keep transformers' Trainer on this device."""

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told to, so that time can be taken."""

    def allocator_peak(self, run: Callable[[], object]) -> int:
        """Run `run` and return the peak of bytes it had allocated, over those at its start."""
