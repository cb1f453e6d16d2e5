"""Faults in what a step allocates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

MEGABYTES = 200


@fault("memory", seen_by=("memory[*]",))
def transient_allocation(config: Mapping[str, Any]) -> Iterator[None]:
    """Allocate 200 MB before each backward pass, when most is in use, and free them again.

    Stands for copies that live for a moment (an upcast of the logits, a gathered state) and that
    max(before, after) never shows.
    """

    def wrap(original: Any) -> Any:
        def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
            # Written to, since untouched pages take no memory.
            torch.empty(MEGABYTES * 1_000_000, dtype=torch.uint8).fill_(1)
            original(loss, *args, **kwargs)

        return backward

    with replaced(torch.Tensor, "backward", wrap):
        yield
