"""PyTorch on the GPU of Apple silicon."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from tunematrix.stack.backends.accelerator import Accelerator
from tunematrix.stack.backends.common import Unusable, host

FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"


class Mps(Accelerator):
    """Apple's GPU through Metal Performance Shaders."""

    def __init__(self) -> None:
        super().__init__("mps")

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Claim the GPU and seed everything; return what now determines the figures.

        Raises:
            Unusable: PyTorch can't compute on it, or would compute elsewhere in silence.
        """
        if os.environ.get(FALLBACK, "0") != "0":
            reason = f"{FALLBACK} is set, so that operators may run on the CPU unseen"
            wanted = "a GPU that all operators run on"
            raise Unusable(reason, present=True, fix="unset it", wanted=wanted)
        determinants = super().begin(seed, threads)
        return {
            **determinants,
            "gpu_memory_mb": torch.mps.recommended_max_memory() // 1_000_000,
            "macos": platform.mac_ver()[0],
        }

    def facts(self) -> dict[str, Any]:
        """Name the chip that both processors share, and the system that drives it."""
        return {**host(), "runtime": f"macOS {platform.mac_ver()[0]}"}


def claim(cache_dir: str) -> None:
    """Compute once on the GPU, before any cell waits for it; raises what `Mps.begin` raises."""
    Mps().begin(seed=0, threads=1)


def multiply() -> None:
    """Do one product, to see whether a forked process can."""
    Mps().multiply("float32")
