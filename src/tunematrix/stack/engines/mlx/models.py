"""The models of one configuration in MLX: its checkpoint is loaded, measured and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from hydra.utils import instantiate
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_lm_utils

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import BaseWeights, Device, Storage
from tunematrix.stack.backends.mlx import Mlx
from tunematrix.stack.engines.common import Base, Floats, Sampling, open_checkpoint
from tunematrix.stack.engines.examples import Example
from tunematrix.stack.engines.mlx import generating, methods, scoring
from tunematrix.stack.engines.mlx.loading import MlxQuantizer, describe, load
from tunematrix.stack.engines.mlx.meters import parameters, tracing, weights
from tunematrix.stack.engines.mlx.meters.tracing import CallMeter


def load_original(folder: Path, backend: Mlx) -> nn.Module:
    """Load a checkpoint as it is, in float32; MLX has one device, and needs none named."""
    # Building layers draws weights for them, which are thrown away: others must not notice.
    high, low = (int(half) for half in np.array(mx.random.state[0]))
    original = load(folder, mx.float32)[0]
    mx.random.seed(high << 32 | low)
    return original


class MlxModels:
    """What one cell's configuration names, made real, and the models that can be loaded of it.

    Attributes:
        backend, quantizer, method: what the configuration names.
        checkpoint: the base model's folder; tokenizer: that folder's.
        dtype: of everything that stays unquantized, and so of the arithmetic.
    """

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.backend: Mlx = instantiate(config.backend.implementation, _convert_="all")
        self.quantizer: MlxQuantizer = instantiate(config.quantizer.implementation, _convert_="all")
        self.method: methods.MlxMethod = instantiate(config.method.implementation, _convert_="all")
        self.checkpoint, self.tokenizer = open_checkpoint(config)
        in_full = config.method.trains_base
        self.dtype: mx.Dtype = getattr(mx, "float32" if in_full else config.precision.weights)

    def original(self) -> nn.Module:
        """Load the checkpoint as it is, in float32."""
        return load_original(self.checkpoint, self.backend)

    def describe(self, model: nn.Module) -> Base:
        """Read a `Base` off an original."""
        return describe(model)

    def load(self, base: Base) -> nn.Module:
        """Load the checkpoint as the configured quantizer stores it."""
        return load(self.checkpoint, self.dtype, self.quantizer)[0]

    def storage(self, model: nn.Module, base: Base) -> Storage:
        """Count the bytes of a freshly loaded model."""
        return parameters.storage(model, base)

    def weights(self, model: nn.Module, base: Base) -> BaseWeights:
        """Hold a freshly loaded base, layer by layer, against the tensors in its checkpoint."""
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        return weights.measure(model, base, self.checkpoint, rounding)

    def locate(self, model: nn.Module, examples: Sequence[Example]) -> Device:
        """Say where a forward pass over `examples` computes, and so where parameters are."""
        layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.QuantizedLinear)]
        meter = CallMeter(layers, self.backend.place, live=True)
        with tracing.watch(meter):
            scoring.logits(model, examples)
        return meter.device_event(model)

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, gradient: bool = False
    ) -> Floats:
        """Return logits at real positions, (tokens, vocabulary), in evaluation mode."""
        return scoring.logits(model, examples)

    def loss(self, model: nn.Module, examples: Sequence[Example]) -> tuple[float, int]:
        """Return (mean nats per counted token, counted tokens) in evaluation mode."""
        return scoring.loss(model, examples)

    def dtypes(self, model: nn.Module) -> Mapping[str, mx.Dtype]:
        """Return the dtype of each parameter, by name."""
        return {name: parameter.dtype for name, parameter in tree_flatten(model.parameters())}

    def dequantized(self, base: Base) -> nn.Module:
        """Load a plain model with the weights that the quantizer's stand for."""
        return mlx_lm_utils.dequantize_model(self.load(base))

    def generate(
        self, model: nn.Module, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue prompts one after the other, as mlx-lm does; return the new tokens of each."""
        end = self.tokenizer.eos_token_id
        return [
            generating.generate(model, prompt, own, end)
            for prompt, own in zip(prompts, sampling.of_each(len(prompts)), strict=True)
        ]

    def gradients(self, model: nn.Module, examples: Sequence[Example]) -> Mapping[str, Floats]:
        """Return the gradient of the mean nats for each parameter of an original, by its name."""
        return scoring.gradients(model, examples)

    def descend(
        self, model: nn.Module, batches: Sequence[Sequence[Example]], rate: float
    ) -> tuple[float, ...]:
        """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""
        return scoring.descend(model, batches, rate)
