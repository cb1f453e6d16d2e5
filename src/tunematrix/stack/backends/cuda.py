"""PyTorch on one NVIDIA GPU: what else determines its figures, and why it can't be used."""

from __future__ import annotations

import os
from typing import Any

import torch

from tunematrix.stack.backends.accelerator import Accelerator


class Cuda(Accelerator):
    """The first GPU that this process may see."""

    def __init__(self) -> None:
        super().__init__("cuda")

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Claim one GPU and seed everything; return what now determines the figures.

        Raises:
            RuntimeError: PyTorch can't compute on it; the text says why.
        """
        # Trainer would spread one process over all that it sees, with another batch size.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
        if torch.version.cuda is None:
            message = (
                f"torch {torch.__version__} was built without CUDA; `nox -s cuda` installs a build "
                "that has it"
            )
            raise RuntimeError(message)
        determinants = super().begin(seed, threads)
        properties = torch.cuda.get_device_properties(0)
        return {
            **determinants,
            "gpu": properties.name,
            "gpu_memory_mb": properties.total_memory // 1_000_000,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }


def claim(cache_dir: str) -> None:
    """Compute once on the GPU, before any cell waits for it; raises what `Cuda.begin` raises."""
    Cuda().begin(seed=0, threads=1)
