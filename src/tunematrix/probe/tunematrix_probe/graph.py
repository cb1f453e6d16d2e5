"""The graph of autograd between a loss and the models' outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

MARK = "tunematrix"
"""Of the node of a model's output."""
SCALED = "tunematrix-scaled"
"""Of the node of a loss that a GradScaler has scaled."""
NEAR = 64
"""Nodes behind a loss among which that of the scaled one is looked for."""
NODES = 50_000
"""Of a graph that are gone through at most."""


def mark(output: torch.Tensor, what: str = MARK) -> None:
    """Note on a tensor's node that a model ends there, without keeping the node alive."""
    node = output.grad_fn
    if node is not None:
        node.metadata[what] = True


def parameters_above(tensors: Iterable[Any]) -> set[int]:
    """Return the ids of leaves that tensors come from past all marked outputs.

    Raises:
        OverflowError: the graph has too many nodes to go through.
    """
    found: set[int] = set()
    waiting = [t.grad_fn for t in tensors if isinstance(t, torch.Tensor) and t.grad_fn is not None]
    seen: dict[Any, None] = {}
    while waiting:
        node = waiting.pop()
        if node in seen or node.metadata.get(MARK):
            continue
        seen[node] = None
        if len(seen) > NODES:
            raise OverflowError(f"a loss has more than {NODES} operations past its models")
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        waiting += [following for following, _ in node.next_functions if following is not None]
    return found


def is_scaled(loss: Any) -> bool:
    """Whether a loss is what a GradScaler has scaled, or was made of it in a few operations."""
    waiting, seen = [getattr(loss, "grad_fn", None)], 0
    while waiting and seen < NEAR:
        node = waiting.pop(0)
        if node is not None:
            if node.metadata.get(SCALED):
                return True
            seen += 1
            waiting += [following for following, _ in node.next_functions]
    return False
