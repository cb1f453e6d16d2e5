"""Dtypes and devices of what really flowed through the base's layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from tunematrix.evidence.events import AttentionKernels, Compute, Device
from tunematrix.stack.engines.torch.meters.hooks import Posts, removing, tensors_of
from tunematrix.stack.yardsticks.blame import passing

LOOKS = 2
KERNELS = "_scaled_dot_product_"
"""How the names of PyTorch's kernels of attention begin, for every backend."""
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


class ProductSpy(TorchDispatchMode):
    """Notes the dtypes of matrix products, below autocast and whatever a layer converts.

    A library's own operator that takes floats first and integers after them multiplies too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Look at a product's left factor, then let everything happen as it would."""
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if function in PRODUCTS:
            self.dtypes.add(dtype_name(tensors[-2].dtype))
        elif function.namespace != "aten" and _mixes(tensors):
            self.dtypes.add(dtype_name(tensors[0].dtype))
        return passing(function, *args, **(kwargs or {}))


class AttentionSpy(TorchDispatchMode):
    """Counts kernels that compute attention in one go, on whatever device.

    PyTorch's function for it falls back to products and a softmax where it is told to, or where it
    finds no kernel, without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Look at the operator's name, then let everything happen as it would."""
        self.kernels += function.__name__.startswith(KERNELS)
        return passing(function, *args, **(kwargs or {}))


def _mixes(tensors: list[torch.Tensor]) -> bool:
    floating = [tensor.is_floating_point() for tensor in tensors]
    return bool(floating) and floating[0] and not all(floating)


@dataclass
class ComputeMeter:
    """Remembers what the base's layers computed in, and where, over their first passes.

    Attributes:
        is_ours: whether a meter is calling the model, and not what trains it.
        layers: those of the base.
    """

    is_ours: Callable[[], bool]
    layers: Sequence[nn.Module] = ()
    spy: ProductSpy = field(default_factory=ProductSpy)
    outputs: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    looks: Counter[int] = field(default_factory=Counter)
    posts: Posts = field(default_factory=Posts)
    attention: AttentionSpy = field(default_factory=AttentionSpy)
    attended: bool = False

    def look(self) -> None:
        """Look at each layer's next passes, whether or not it has been looked at before."""
        self.looks.clear()
        for layer in self.layers:
            if layer not in self.posts:
                entered = layer.register_forward_pre_hook(self.entered)
                self.posts.put(layer, (entered, layer.register_forward_hook(self.left)))

    def entered(self, layer: nn.Module, args: Any) -> None:
        """Begin to look at one layer's pass while training."""
        if self._looks_at(layer):
            self.spy.__enter__()

    def left(self, layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        """End it, and look at the output."""
        if self._looks_at(layer):
            self.spy.__exit__(None, None, None)
            self.looks[id(layer)] += 1
            self.outputs.add(dtype_name(output.dtype))
            self.devices.add(output.device.type)
        if self.looks[id(layer)] == LOOKS:
            self.posts.leave(layer)

    @torch.compiler.disable
    def began(self, model: nn.Module, args: Any) -> None:
        """Begin to look at attention in the model's first pass while training."""
        if self._attends(model):
            self.attention.__enter__()

    @torch.compiler.disable
    def ended(self, model: nn.Module, args: Any, output: Any) -> None:
        """End it; of layers that nobody looks into, the model's output says where they computed."""
        if not self.layers and not self.is_ours():
            self.devices |= {one.device.type for one in tensors_of(output)}
        if self._attends(model):
            self.attention.__exit__(None, None, None)
            self.attended = True

    def _looks_at(self, layer: nn.Module) -> bool:
        return layer.training and self.looks[id(layer)] < LOOKS and not self.is_ours()

    def _attends(self, model: nn.Module) -> bool:
        new = bool(self.layers) and not self.attended
        return new and model.training and not self.is_ours()

    def events(self, model: nn.Module) -> tuple[Compute, Device]:
        """Say what was seen, beside the dtypes and devices of the parameters."""
        trained = {dtype_name(p.dtype) for p in model.parameters() if p.requires_grad}
        products = tuple(sorted(self.spy.dtypes or self.outputs))
        whole = attending(model)
        attention = (
            None
            if whole is None or not self.layers
            else AttentionKernels(self.attention.kernels, _attention_layers(whole))
        )
        computed = Compute(products, tuple(sorted(trained)), attention)
        return computed, device_event(model, self.devices)


def attending(model: nn.Module) -> PreTrainedModel | None:
    """Return the part of `model` that is transformers' own, if a kernel can do its attention."""
    found = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    whole = next(found, None)
    return whole if whole is not None and whole._supports_sdpa else None


def _attention_layers(model: PreTrainedModel) -> int:
    """Count the layers that attend: in a hybrid model, not those that only mix or recur."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["attention"] * int(config.num_hidden_layers)
    return sum(kind.endswith("attention") and not kind.startswith("linear") for kind in kinds)


@contextmanager
def watch(model: nn.Module, layers: list[nn.Module], meter: ComputeMeter) -> Iterator[None]:
    """Let `meter` see what happens inside `layers` of `model`, and in its attention, meanwhile."""
    meter.layers = layers
    meter.look()
    try:
        # Not those of transformers' own model: older releases of PEFT call its forward without
        # them.
        with removing(
            model.register_forward_pre_hook(meter.began), model.register_forward_hook(meter.ended)
        ):
            yield
    finally:
        meter.posts.leave_all()


@contextmanager
def places(model: nn.Module) -> Iterator[set[str]]:
    """Collect the device types that tensors leave the model's modules on meanwhile."""
    found: set[str] = set()

    def left(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            found.add(output.device.type)

    with removing(*(module.register_forward_hook(left) for module in model.modules())):
        yield found


def device_event(model: nn.Module, activations: set[str]) -> Device:
    """Say where the parameters of `model` are, beside where its activations were seen."""
    parameters = Counter(parameter.device.type for parameter in model.parameters())
    return Device(dict(parameters), tuple(sorted(activations)))


def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype as configs do: float32, bfloat16."""
    return str(dtype).removeprefix("torch.")
