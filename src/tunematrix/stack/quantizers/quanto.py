"""optimum-quanto through its own `quantize` and `freeze`."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from optimum.quanto import freeze, qint4, qint8, quantize
from optimum.quanto.library.extensions import get_extension
from torch import nn
from transformers import PreTrainedModel

from tunematrix.stack.quantizers.common import InMemory, Placement, from_pretrained, own_tensors


class Quanto(InMemory):
    """Symmetric int8 by row, or int4 in groups with scale and shift.

    Attributes:
        bits: 4 or 8.
    """

    prepares_for_kbit = False
    in_place = True
    unexportable = "transformers doesn't save quanto's layers"

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`, then quantize the layers named in `linears` in place."""
        if self.bits == 4:
            _use_build_directory(placement.cache)
        model = from_pretrained(path, placement).to(placement.device)
        self.quantize(model, linears)
        return model

    def quantize(self, model: nn.Module, linears: Sequence[str]) -> None:
        """Replace the layers named in `linears`."""
        quantize(model, weights=qint8 if self.bits == 8 else qint4, include=list(linears))
        freeze(model)

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Let quanto's weight tensor dequantize itself."""
        weight: torch.Tensor = layer.get_parameter("weight").dequantize()
        return weight

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield what is inside quanto's weight tensor, and the layer's buffers."""
        yield from own_tensors(layer)


def build_extension(cache_dir: str) -> None:
    """Compile quanto's C++ kernel once, below `cache_dir`; about a minute.

    Our own lock is released by the kernel when its holder dies. torch's isn't: its lock file
    outlives a killed build, and the next build would wait on it for ever.
    """
    cache = Path(cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "quanto-cpp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = _use_build_directory(cache)
        if (folder / "lock").exists():
            shutil.rmtree(folder)
        _ = get_extension("quanto_cpp").lib


def _use_build_directory(cache: Path) -> Path:
    """Compile below `cache`, not into the installed package, with the environment's own ninja."""
    extension = get_extension("quanto_cpp")
    extension.build_directory = str(cache / f"quanto-cpp-torch-{torch.__version__}")
    tools = str(Path(sys.executable).parent)
    if tools not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((tools, os.environ.get("PATH", "")))
    return Path(extension.build_directory)
