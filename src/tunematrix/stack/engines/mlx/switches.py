"""MLX's process-wide switches, and NumPy's, which mlx-lm draws its batches with."""

from __future__ import annotations

import os

import mlx.core as mx


def read() -> dict[str, str]:
    """Return name to value of what changes MLX's figures wherever it is set."""
    return {
        "default device": str(mx.default_device()),
        "MLX_ENABLE_TF32": str(os.environ.get("MLX_ENABLE_TF32")),
    }
