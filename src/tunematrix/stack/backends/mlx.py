"""MLX on the device of this host: seeds, the device that computes, and the allocator's peak."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from tunematrix.stack.backends.common import SIDE, Peak, Unusable, host
from tunematrix.stack.mlx_releases import device_info


class Mlx:
    """MLX's default device: the GPU of a Mac, elsewhere what MLX was built for."""

    device = "mlx"
    allocator_method = "mx.get_peak_memory over mx.get_active_memory, separate pass"

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Seed everything and make sure of the device; return what now determines the figures.

        MLX takes no number of threads; `threads` is noted as not having been heeded.

        Raises:
            Unusable: another device computes than this host has for it.
        """
        if self.place() != self.device:
            raise Unusable(
                f"MLX computes on {mx.default_device()} where this host's device is "
                f"{_host_device()}",
                present=True,
                wanted="the device of this host",
                fix="run it on the Mac itself: a virtual machine may have no Metal",
            )
        mx.random.seed(seed)
        # mlx-lm shuffles its batches with it.
        np.random.seed(seed)
        return {
            "seed": seed,
            "threads": None,
            "device": mx.default_device().type.name,
            "device_info": device_info(),
        }

    def facts(self) -> dict[str, Any]:
        """Name the device and its memory, as far as MLX tells."""
        info = device_info()
        found = {"name": info.get("device_name"), "memory_bytes": info.get("memory_size")}
        return {**host(), **{key: fact for key, fact in found.items() if fact}}

    def multiply(self, dtype: str) -> float:
        """Multiply two squares of ones with sides of `SIDE`; return the sum of the product."""
        square = mx.ones((SIDE, SIDE), dtype=getattr(mx, dtype))
        return float((square @ square).astype(mx.float32).sum().item())

    def place(self) -> str:
        """Name the device that computes now: "mlx" for this host's own, else its type."""
        computing = str(mx.default_device().type.name)
        return self.device if computing == _host_device() else computing

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told to, so that time can be taken."""
        mx.synchronize()

    @contextmanager
    def tracked(self) -> Iterator[Peak]:
        """Follow the allocator meanwhile; what it yields has the peak once that is over."""
        peak = Peak()
        mx.synchronize()
        mx.clear_cache()
        start = int(mx.get_active_memory())
        mx.reset_peak_memory()
        yield peak
        mx.synchronize()
        peak.bytes = int(mx.get_peak_memory()) - start


def claim(cache_dir: str) -> None:
    """Look at the device before any cell waits for it; raises what `Mlx.begin` raises."""
    Mlx().begin(seed=0, threads=1)


def multiply() -> None:
    """Do one product, to see whether a forked process can."""
    Mlx().multiply("float32")


def _host_device() -> str:
    return "gpu" if platform.system() == "Darwin" or mx.cuda.is_available() else "cpu"
