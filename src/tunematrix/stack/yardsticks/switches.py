"""Process-wide switches, read again after each step: a library sets them for all that follow."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tunematrix.evidence.events import Switches

Read = Callable[[], Mapping[str, str]]
"""Returns name to value of every switch of a framework, as they are now."""

EARLY, SELDOM = 4, 4
"""Steps after each of which switches are read, and the distance of those that follow: what sets
one leaves it set."""
VARIABLES = (
    "CUDA_", "CUBLAS_", "HIP_", "KMP_", "MALLOC_", "MKL_", "MLX_", "NCCL_", "NVIDIA_", "OMP_",
    "OPENBLAS_", "PYTORCH_", "TORCH_", "XLA_",
)  # fmt: skip
"""Beginnings of the names of variables that libraries compute otherwise by."""


def of_the_process() -> dict[str, str]:
    """Return the switches of Python, NumPy and the environment, whatever the framework is."""
    variables = {name: os.environ[name] for name in os.environ if name.startswith(VARIABLES)}
    return {
        "errors of NumPy": str(np.geterr()),
        "garbage collection": str(gc.isenabled()),
        "working directory": str(Path.cwd()),
        "warnings": ", ".join(sorted(_for_all_warnings())) or "as they come",
        "logging": str(logging.root.manager.disable),
        **variables,
    }


def _for_all_warnings() -> set[str]:
    """Return what is done with warnings whoever gives them; single ones are a library's affair."""
    return {
        action
        for action, message, category, module, line in warnings.filters
        if message is None and module is None and not line and category in (Warning, UserWarning)
    }


class SwitchMeter:
    """Remembers which switches no longer are as they were when it was made.

    Args:
        read: returns them as they are.
    """

    def __init__(self, read: Read) -> None:
        self.begun, self.read = dict(read()), read
        self.changed: dict[str, tuple[int, str]] = {}
        self.steps = 0

    def look(self, step: int) -> None:
        """Read them after optimizer step `step`, from 0."""
        self.steps += 1
        if step < EARLY or step % SELDOM == 0:
            self._compare(step)

    def _compare(self, step: int) -> None:
        now = self.read()
        for name in now.keys() | self.begun.keys():
            value = now.get(name, "not set")
            if value != self.begun.get(name, "not set"):
                self.changed.setdefault(name, (step, value))

    def event(self) -> Switches:
        """Say what was seen, and what is left behind when training is over."""
        self._compare(self.steps)
        return Switches(self.begun, self.steps, self.changed)
