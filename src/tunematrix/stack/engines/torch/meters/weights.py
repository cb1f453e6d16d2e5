"""A freshly loaded base beside its checkpoint's own tensors: weights, products, gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunematrix.configuration.theory import Rounding
from tunematrix.evidence.events import (
    BaseWeights,
    LayerProduct,
    LayerWeight,
    LoadedParameter,
)
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters import parts, storage
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.yardsticks import group_scales, rounding
from tunematrix.stack.yardsticks.blame import accepted

ROWS = 16
SEED = 0
PLAIN = (torch.Tensor, nn.Parameter)


@dataclass(frozen=True)
class Layers:
    """How linear layers are stored.

    Attributes:
        quantizer: knows what weight one stands for.
        dtype: of what enters and leaves one.
        rounding: the quantizer's format; None where none is declared.
        multiplies: whether their products are measured as well as their weights.
    """

    quantizer: TorchQuantizer
    dtype: torch.dtype
    rounding: Rounding | None
    multiplies: bool = True


def measure(model: PreTrainedModel, base: Base, originals: Originals, how: Layers) -> BaseWeights:
    """Hold each tensor that has its own name among the originals against what was loaded.

    To be called before any forward pass: some libraries repack then. Draws from a generator of
    its own, so that what follows draws what it would have drawn.
    """
    draws = torch.Generator().manual_seed(SEED)
    layers, products, groups, scales = [], [], [], []
    for name in base.linears:
        layer = model.get_submodule(name)
        wanted = originals.weight(name, turned=is_turned(layer))
        if wanted is None:
            continue  # such as experts, which transformers puts together as it loads
        stored = stored_weight(layer, how.quantizer, wanted.numel())
        error = _relative(stored.cpu() - wanted, wanted)
        layers.append(LayerWeight(name, error, rounding.error(wanted.numpy(), how.rounding)))
        if how.rounding is not None:
            both = stored.cpu().numpy(), wanted.numpy(), how.rounding
            groups.append(LayerWeight(name, *rounding.worst_group(*both)))
            scales.append(group_scales.measure(name, *both))
        if how.multiplies:
            products.append(LayerProduct(name, *_products(layer, stored, how.dtype, draws)))
    found = BaseWeights(
        layers=tuple(layers),
        products=tuple(products),
        others=tuple(_others(model, base, originals)),
        groups=tuple(groups),
        scales=tuple(scales),
    )
    if not how.multiplies:
        return found
    states = storage.states(model, base, how.quantizer) if how.rounding is not None else ()
    own = parts.measure(model, how.dtype)
    return replace(found, parts=own.parts, rows=own.rows, states=tuple(states))


class Originals:
    """The tensors of a checkpoint's files, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)

    def find(self, name: str) -> torch.Tensor | None:
        """Return a parameter's, in float32; a file may name it without its model's prefix."""
        while name not in self.files and "." in name:
            name = name.partition(".")[2]
        if name not in self.files:
            return None
        with safe_open(self.files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.float()

    def weight(self, layer: str, *, turned: bool) -> torch.Tensor | None:
        """Return the weight of a linear layer, (out, in); `turned` where files have (in, out)."""
        found = self.find(f"{layer}.weight")
        return found.T.contiguous() if turned and found is not None else found


def is_turned(layer: nn.Module) -> bool:
    """Whether a layer's weight is kept as (in, out), as GPT-2 does."""
    # bitsandbytes says what its layer has replaced.
    return issubclass(getattr(layer, "source_cls", None) or type(layer), Conv1D)


def stored_weight(layer: nn.Module, quantizer: TorchQuantizer, elements: int) -> torch.Tensor:
    """Return the weight that a layer stands for, (out, in); also of one that was left whole."""
    weight: Any = getattr(layer, "weight", None)
    # Before transformers 5, hqq's layers had an empty weight beside the packed one.
    plain = type(weight) in PLAIN and weight.is_floating_point() and weight.numel() == elements
    if not plain:
        return quantizer.dequantized(layer).detach().float()
    weight = weight.detach().float()
    return weight.T if isinstance(layer, Conv1D) else weight


def _others(model: PreTrainedModel, base: Base, originals: Originals) -> Iterator[LoadedParameter]:
    """Yield the errors of embeddings, norms, biases and the head."""
    layers = {f"{name}.weight" for name in base.linears}
    tied = next(n for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in layers:
            continue
        head = name.startswith("lm_head.")
        wanted = originals.find(tied if head and originals.find(name) is None else name)
        if wanted is None:
            continue
        if type(parameter) not in PLAIN or parameter.shape != wanted.shape:
            yield LoadedParameter(name, float("inf"))
        else:
            error = _relative(parameter.detach().float().cpu() - wanted, wanted)
            yield LoadedParameter(name, error)


def _products(
    layer: nn.Module, weight: torch.Tensor, dtype: torch.dtype, draws: torch.Generator
) -> tuple[float, float]:
    """Return the relative errors of a layer's products, and of the gradients they hand back.

    Both are infinite for a layer that refuses rows of `dtype`.
    """
    rows = torch.randn(ROWS, weight.shape[1], generator=draws).to(weight.device, dtype)
    above = torch.randn(ROWS, weight.shape[0], generator=draws).to(weight.device, dtype)
    rows.requires_grad_(True)
    with torch.enable_grad():
        if (out := accepted(layer, rows)) is None:
            return math.inf, math.inf
        bias = layer.bias
        (gradient,) = torch.autograd.grad(out, rows, above.to(out.dtype))
    due = rows.detach().float() @ weight.T + (0 if bias is None else bias.detach().float())
    back = above.float() @ weight
    return _relative(out.detach().float() - due, due), _relative(gradient.float() - back, back)


def _relative(difference: torch.Tensor, of: torch.Tensor) -> float:
    return rounding.relative(difference.cpu().numpy(), of.cpu().numpy())


@contextmanager
def enlarged(factors: Sequence[torch.Tensor], times: float) -> Iterator[None]:
    """Multiply tensors meanwhile by a power of two, which rounds nothing."""
    kept = [factor.clone() for factor in factors]
    for factor in factors:
        factor.mul_(times)
    try:
        yield
    finally:
        for factor, before in zip(factors, kept, strict=True):
            factor.copy_(before)
