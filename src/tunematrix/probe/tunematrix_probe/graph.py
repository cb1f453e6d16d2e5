"""The graph of autograd between a loss and the models' outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

MARK = "tunematrix"
NODES = 50_000
"""Of a graph that are gone through at most."""


def mark(output: torch.Tensor) -> None:
    """Note on an output's node that a model ends there, without keeping the node alive."""
    node = output.grad_fn
    if node is not None:
        node.metadata[MARK] = True


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
