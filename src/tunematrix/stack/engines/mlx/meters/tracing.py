"""Layers' calls, seen from inside: dtypes, devices and how often a layer ran.

mlx-lm compiles its step, and Python runs only while that is traced; what was traced is what every
later step of the same shape executes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from tunematrix.evidence.events import Compute, Device
from tunematrix.stack.yardsticks.blame import passing

Call = Callable[..., mx.array]


@dataclass
class CallMeter:
    """Looks at what leaves the base's linear layers while `live`.

    Attributes:
        layers: those layers; the first one's calls are counted.
        device: names MLX's default device.
        live: whether the trainer is at work, and not a meter.
        dtypes, devices: seen so far.
    """

    layers: Sequence[nn.Module]
    device: Callable[[], str]
    live: bool = False
    calls: int = 0
    dtypes: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)

    def called(self, layer: nn.Module, output: mx.array) -> None:
        """Look at one call."""
        if not self.live:
            return
        self.calls += layer is self.layers[0]
        if any(layer is own for own in self.layers):
            self.dtypes.add(dtype_name(output.dtype))
            self.devices.add(self.device())

    def compute_event(self, model: nn.Module) -> Compute:
        """Say what was seen, beside the dtypes of the trained parameters."""
        trained = {dtype_name(p.dtype) for _, p in tree_flatten(model.trainable_parameters())}
        return Compute(tuple(sorted(self.dtypes)), tuple(sorted(trained)))

    def device_event(self, model: nn.Module) -> Device:
        """Say where layers computed; an array's place is where the default device keeps all."""
        parameters = {self.device(): len(tree_flatten(model.parameters()))}
        return Device(parameters, tuple(sorted(self.devices)))


@contextmanager
def watch(meter: CallMeter) -> Iterator[None]:
    """Let `meter` see calls meanwhile: MLX has no hooks, so the layers' classes are patched."""
    kinds = {type(layer) for layer in meter.layers}
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(calling(kind, _watched(kind.__call__, meter)))
        yield


@contextmanager
def calling(kind: type[nn.Module], call: Call) -> Iterator[None]:
    """Let instances of a class be called through `call` meanwhile."""
    before = kind.__call__
    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = before


def _watched(call: Call, meter: CallMeter) -> Call:
    def watched(layer: nn.Module, *args: object, **kwargs: object) -> mx.array:
        output = passing(call, layer, *args, **kwargs)
        meter.called(layer, output)
        return output

    return watched


def dtype_name(dtype: mx.Dtype) -> str:
    """Name a dtype as configs do: float32, bfloat16."""
    return str(dtype).removeprefix("mlx.core.")
