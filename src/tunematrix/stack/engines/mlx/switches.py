"""MLX's process-wide switches, and NumPy's, which mlx-lm draws its batches with."""

from __future__ import annotations

import mlx.core as mx

from tunematrix.stack.yardsticks.switches import of_the_process


def read() -> dict[str, str]:
    """Return name to value of what changes MLX's figures wherever it is set."""
    return {
        "default device": str(mx.default_device()),
        **of_the_process(),
    }
