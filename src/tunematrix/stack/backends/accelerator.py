"""What CUDA and MPS have in common: one device, reached through `torch.accelerator`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import set_seed

from tunematrix.stack.backends.common import SIDE, Peak, Unusable
from tunematrix.stack.releases import allocator, current_accelerator


class Accelerator:
    """One process on one accelerator.

    Attributes:
        device: PyTorch's name of its kind.
    """

    allocator_method = "torch.accelerator, peak of allocated bytes, separate pass"

    def __init__(self, device: str) -> None:
        self.device = device

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Claim the device and seed everything; return what now determines the figures.

        Raises:
            Unusable: PyTorch can't compute on the device; the text says what it found.
        """
        self._claim()
        torch.set_num_threads(max(1, threads))
        set_seed(seed)
        return {
            "seed": seed,
            "threads": torch.get_num_threads(),
            "device": self.device,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }

    def multiply(self, dtype: str) -> float:
        """Multiply two squares of ones with sides of `SIDE`; return the sum of the product."""
        square = torch.ones(SIDE, SIDE, dtype=getattr(torch, dtype), device=self.device)
        return float((square @ square).float().sum().item())

    def trainer_settings(self) -> dict[str, Any]:
        """Return nothing: Trainer takes the accelerator that it finds, and `begin` has looked."""
        return {}

    def synchronize(self) -> None:
        """Wait until everything queued on the device is done."""
        torch.accelerator.synchronize()

    @contextmanager
    def tracked(self) -> Iterator[Peak]:
        """Follow the allocator meanwhile; what it yields has the peak once that is over."""
        peak = Peak()
        gc.collect()
        memory = allocator(self.device)
        memory.empty_cache()
        memory.reset_peak_memory_stats()
        start = memory.memory_allocated()
        yield peak
        torch.accelerator.synchronize()
        peak.bytes = memory.max_memory_allocated() - start

    def _claim(self) -> None:
        """Compute once on the device: that it is listed proves nothing."""
        current = current_accelerator()
        if current is None or current.type != self.device:
            found = "no accelerator" if current is None else f"{current.type} alone"
            raise Unusable(
                f"{self.device} was asked for, and torch {torch.__version__} finds {found}",
                present=False,
                wanted=f"a device of the kind {self.device}",
                fix="run it where there is one",
            )
        torch.ones(2, device=self.device).sum().item()
