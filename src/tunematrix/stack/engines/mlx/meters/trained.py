"""Dtypes of what trained, and what the adapters' own dropout does; read once training is over.

mlx-lm's step is compiled, so nothing can be counted inside it: the dropout of each adapter is
called on ones instead, in training mode, as the step called it.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten

from tunematrix.evidence.events import AdapterDropout, TrainedDtypes
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.mlx.meters.tracing import dtype_name

INPUTS = 4096
"""Of each adapter."""


def dtypes(model: nn.Module, optimizer: Optimizer) -> TrainedDtypes:
    """Look at trained parameters and at the optimizer's moments; its gradients are out of sight."""
    parameters = {dtype_name(p.dtype) for _, p in tree_flatten(model.trainable_parameters())}
    # Beside the moments stand the step and the rate, which are single numbers.
    state = {dtype_name(a.dtype) for _, a in tree_flatten(optimizer.state) if a.ndim}
    return TrainedDtypes(tuple(sorted(parameters)), (), tuple(sorted(state)))


def dropout(model: nn.Module, base: Base) -> AdapterDropout | None:
    """Count what the adapters' dropout puts to zero; None where there are no adapters."""
    modules = dict(model.named_modules())
    droppers = [modules[name].dropout for name in base.linears if "dropout" in modules[name]]
    if not droppers:
        return None
    ones = mx.ones(INPUTS)
    zeroed = sum(int((dropper(ones) == 0).sum().item()) for dropper in droppers)
    return AdapterDropout(INPUTS * len(droppers), zeroed)
