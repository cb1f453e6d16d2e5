"""Helpers for tests of your own: tiny models and data in; peaks, shares and clear failures out.

Importing this takes no ML library; calling it takes those that the backend needs.
"""

from __future__ import annotations

from tunematrix.testing.backends import requires_backend
from tunematrix.testing.convergence import assert_converged
from tunematrix.testing.memory import MemoryUse, track_memory
from tunematrix.testing.toys import tiny_dataset, tiny_floor, tiny_model, tiny_tokenizer

__all__ = [
    "MemoryUse",
    "assert_converged",
    "requires_backend",
    "tiny_dataset",
    "tiny_floor",
    "tiny_model",
    "tiny_tokenizer",
    "track_memory",
]
