"""Faults in what torch.compile makes of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault

COMPILED = ("same-compiled[*-lora]", "same-compiled[*-full]", "same-compiled[*-custom-lora]")
Call = Callable[..., Any]


def _of_models(replacement: Call) -> Call:
    """Leave out what libraries compile of their own as they are imported."""

    @wraps(replacement)
    def compile_one(original: Call, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(model, nn.Module):
            return replacement(original, model)
        return original(model, *args, **kwargs)

    return compile_one


@fault("configuration", replaces=(torch, "compile"), seen_by=COMPILED, fitted=True)
@_of_models
def never_compiled(_original: Call, model: nn.Module) -> Any:
    """Give the model back as it came.

    Stands for `torch_compile=True` that a wrapper swallows.
    """
    return model


@fault("configuration", seen_by=COMPILED, fitted=True)
def fallen_back(config: Configuration) -> Iterator[None]:
    """Compute uncompiled, whatever was compiled.

    Stands for graphs that are given up after some shapes, which is but a warning.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


@fault("gradients", replaces=(torch, "compile"), seen_by=COMPILED, fitted=True)
@_of_models
def weights_of_the_first_pass(original: Call, model: nn.Module) -> Any:
    """Compute by the weights that a graph was compiled with, whatever training makes of them.

    Stands for weights that a compiler takes for constants.
    """

    def compiled(graph: fx.GraphModule, inputs: Any) -> Any:
        run = torch._dynamo.lookup_backend("aot_eager")(graph, inputs)
        first: dict[int, torch.Tensor] = {}

        def by_the_first(*given: Any) -> Any:
            return run(*(_as_first(place, one, first) for place, one in enumerate(given)))

        return by_the_first

    return original(model, backend=compiled)


@fault("precision", replaces=(torch, "compile"), seen_by=COMPILED, fitted=True, subtle=True)
@_of_models
def another_activation(original: Call, model: nn.Module) -> Any:
    """Compute an activation that is 0.1 % steeper, in compiled graphs alone.

    Stands for operators that a compiler takes apart by a formula that is nearly theirs.
    """
    return original(model, backend=_with(functional.silu, _steeper))


@fault("gradients", replaces=(torch, "compile"), seen_by=COMPILED, fitted=True)
@_of_models
def gradient_cut_in_the_graph(original: Call, model: nn.Module) -> Any:
    """Let no gradient through the activations of compiled graphs.

    Stands for operators whose backward pass a compiler leaves out.
    """
    return original(model, backend=_with(functional.silu, _cut))


def _as_first(place: int, given: Any, first: dict[int, torch.Tensor]) -> Any:
    """Return a parameter with its first values; its gradient arrives where it would."""
    if not (isinstance(given, nn.Parameter) and given.requires_grad):
        return given
    old = first.setdefault(place, given.detach().clone())
    return given + (old - given).detach()


def _steeper(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return inputs * torch.sigmoid(1.001 * inputs)


def _cut(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return functional.silu(inputs).detach()


def _with(operator: Call, instead: Call) -> Call:
    """Return a backend that compiles graphs with one operator in the place of another."""

    def compiled(graph: fx.GraphModule, inputs: Any) -> Any:
        for node in graph.graph.nodes:
            if node.target is operator:
                node.target = instead
        graph.recompile()
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    return compiled
