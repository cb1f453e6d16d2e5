"""Quantizers that don't do what they declare, and a device that refuses; copied as a module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunematrix.stack.backends.cpu import Cpu
from tunematrix.stack.engines.torch.unquantized import Unquantized
from tunematrix.stack.quantizers.common import Placement


class Liar(Unquantized):
    """Leaves every weight as it is."""


class Hanging(Unquantized):
    """Never comes back."""

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Wait for good."""
        time.sleep(600)
        raise AssertionError


class Dying(Unquantized):
    """Runs out of memory, as far as anybody can see."""

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Deaf(Unquantized):
    """Lets no gradient through."""

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load a model whose last norm multiplies everything by zero on the way back."""
        model = super().load(path, linears, placement)
        model.model.norm.register_full_backward_hook(_silence)
        return model


class Asleep(Cpu):
    """A device that can't be claimed."""

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Refuse."""
        raise RuntimeError("the device is asleep")


def _silence(_module: object, gradients: tuple[Any, ...], _outputs: object) -> tuple[Any, ...]:
    return tuple(gradient * 0 for gradient in gradients)


def fail_to_compile(cache_dir: str) -> None:
    """Say what torch says without ninja."""
    raise RuntimeError("Ninja is required")
