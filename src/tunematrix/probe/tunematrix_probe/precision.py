"""What a model computes in: autocast around its call, and the dtypes of its matrix products."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .records import SeenPrecision
from .repeating import Pass
from .state import ProcessState

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "_scaled_mm", "linear", "convolution"}
MOST = 8
"""Contexts of autocast that are told."""


class _Products(TorchDispatchMode):
    """Counts matrix products by the dtype of their left factor, and changes none."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Look at an operator, then let it do what it does."""
        name = function.name().split("::")[-1].split(".")[0]
        if name in PRODUCTS:
            factors = [a for a in args if isinstance(a, torch.Tensor) and a.dim() > 1]
            if factors:
                # Of addmm, the first is what is added, and it may have one dimension.
                factor = factors[-2] if len(factors) > 1 else factors[0]
                dtype = str(factor.dtype).replace("torch.", "")
                self.counts[dtype] = self.counts.get(dtype, 0) + 1
        return function(*args, **(kwargs or {}))


class Precision:
    """Looks at the first repeated pass of each model.

    Attributes:
        asked_for: contexts of autocast that have been made, as device:dtype.
    """

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self.asked_for: set[str] = set()

    def autocast_asked(
        self,
        context: Any,
        device_type: str = "",
        dtype: Any = None,
        enabled: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Note that autocast is asked for; without its device it would switch itself off."""
        if enabled and not self.state.busy and len(self.asked_for) < MOST:
            name = "" if dtype is None else str(dtype).replace("torch.", "")
            self.asked_for.add(f"{device_type}:{name}")

    @contextmanager
    def looking(self, one: Pass) -> Iterator[None]:
        """Look at what is computed meanwhile, if it hasn't been looked at."""
        if one.model.products_seen or "precision" in self.state.off.parts:
            yield
            return
        one.model.products_seen = True
        with _Products() as products:
            yield
        _, dtype, enabled = one.autocast
        self.state.writer.write(
            SeenPrecision(
                model=one.model.number,
                step=one.step,
                autocast=str(dtype).replace("torch.", "") if enabled else "",
                asked=_asked(),
                entered=tuple(sorted(self.asked_for)),
                products=products.counts,
            )
        )


def _asked() -> str:
    """Return the mixed precision that accelerate was asked for, if it is used."""
    state = sys.modules.get("accelerate.state")
    shared = getattr(getattr(state, "AcceleratorState", None), "_shared_state", {})
    if not shared:
        return ""
    asked = shared.get("_mixed_precision") or os.environ.get("ACCELERATE_MIXED_PRECISION", "")
    return str(getattr(asked, "value", asked) or "")
