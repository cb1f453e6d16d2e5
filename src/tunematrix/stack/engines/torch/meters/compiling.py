"""Whether what trains was compiled: what a training pass leaves for its backward pass.

A compiled graph stands there as one node. What ran outside of it, since nothing was compiled, since
it fell back or since it was interrupted, has left nodes of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import Compiled
from tunematrix.stack.engines.torch.meters.hooks import removing, tensors_of

GRAPH = "CompiledFunctionBackward"
MULTIPLIES = re.compile(r"mm|linear|matmul|attention", re.IGNORECASE)
"""Found in the names of nodes whose operators multiply, a quantizer's own included."""


class CompileMeter:
    """Looks at the output of each training pass.

    Args:
        is_ours: whether a meter is calling the model, and not what trains it.

    Attributes:
        passes: so far; idle: those without a compiled graph; outside: most products beside graphs.
        products: of a meter's own pass, which isn't compiled.
    """

    def __init__(self, *, is_ours: Callable[[], bool]) -> None:
        self.is_ours = is_ours
        self.passes = self.idle = self.outside = 0
        self.products: int | None = None

    @torch.compiler.disable
    def left(self, model: nn.Module, args: Any, output: Any) -> None:
        """Look at one pass."""
        nodes = _nodes([one.grad_fn for one in tensors_of(output)])
        products = sum(count for name, count in nodes.items() if MULTIPLIES.search(name))
        if self.is_ours():
            self.products = products or self.products
        elif model.training and torch.is_grad_enabled():
            self.passes += 1
            self.idle += not nodes[GRAPH]
            self.outside = max(self.outside, products)

    def event(self) -> Compiled:
        """Say what was seen."""
        return Compiled(self.passes, self.idle, self.products, self.outside)


@contextmanager
def watch(model: nn.Module, meter: CompileMeter) -> Iterator[None]:
    """Let `meter` see what leaves `model` meanwhile."""
    with removing(model.register_forward_hook(meter.left)):
        yield


def _nodes(last: Sequence[torch.autograd.graph.Node | None]) -> Counter[str]:
    """Count the nodes that lie behind the last ones, by their names."""
    found: Counter[str] = Counter()
    seen = set()
    left = list(last)
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found[node.name()] += 1
        left += [before for before, _ in node.next_functions]
    return found
