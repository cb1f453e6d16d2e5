"""The models of one configuration in PyTorch: its checkpoint is loaded, measured and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import disable_progress_bars as disable_datasets_bars
from hydra.utils import instantiate
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar as disable_transformers_bars

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import BaseWeights, Device, Storage
from tunematrix.stack.backends.common import TorchBackend
from tunematrix.stack.engines.common import Base, Floats, Sampling, open_checkpoint
from tunematrix.stack.engines.examples import Example
from tunematrix.stack.engines.torch import generating, loaders, scoring
from tunematrix.stack.engines.torch.meters import compute, storage, weights
from tunematrix.stack.engines.torch.methods.common import TorchMethod, describe
from tunematrix.stack.engines.torch.padding import TorchBatch, pad
from tunematrix.stack.engines.torch.published import by_published_name
from tunematrix.stack.quantizers.common import Placement, TorchQuantizer, from_pretrained


def load_original(folder: Path, backend: TorchBackend) -> PreTrainedModel:
    """Load a checkpoint as it is, in float32, onto a backend's device."""
    placement = Placement(backend.device, torch.float32, torch.float32, cache=folder)
    return from_pretrained(folder, placement).to(backend.device)


class TorchModels:
    """What one cell's configuration names, made real, and the models that can be loaded of it.

    Attributes:
        backend, quantizer, method: what the configuration names.
        checkpoint: the base model's folder; tokenizer: that folder's.
        placement: where and in which dtypes models are loaded.
    """

    def __init__(self, config: Configuration) -> None:
        disable_datasets_bars()
        disable_transformers_bars()
        self.config = config
        self.backend: TorchBackend = instantiate(config.backend.implementation, _convert_="all")
        quantizer = config.quantizer.implementation
        self.quantizer: TorchQuantizer = instantiate(quantizer, _convert_="all")
        self.method: TorchMethod = instantiate(config.method.implementation, _convert_="all")
        self.checkpoint, self.tokenizer = open_checkpoint(config)
        # Trained weights stay in full precision and autocast lowers the arithmetic.
        in_full = config.method.trains_base
        self.placement = Placement(
            device=self.backend.device,
            weights=getattr(torch, "float32" if in_full else config.precision.weights),
            compute=getattr(torch, config.precision.compute),
            cache=Path(config.cache_dir),
        )

    def original(self) -> PreTrainedModel:
        """Load the checkpoint as it is, in float32."""
        return load_original(self.checkpoint, self.backend)

    def describe(self, model: PreTrainedModel) -> Base:
        """Read a `Base` off an original."""
        return describe(model)

    def load(self, base: Base) -> PreTrainedModel:
        """Load the checkpoint as the configured quantizer stores it."""
        return self.quantizer.load(self.checkpoint, base.linears, self.placement)

    def storage(self, model: nn.Module, base: Base) -> Storage:
        """Count the bytes of a freshly loaded model."""
        return storage.measure(model, base, self.quantizer)

    def weights(self, model: PreTrainedModel, base: Base) -> BaseWeights:
        """Hold a freshly loaded base, layer by layer, against the tensors in its checkpoint."""
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        layers = weights.Layers(self.quantizer, self.placement.weights, rounding)
        return weights.measure(model, base, weights.Originals(self.checkpoint), layers)

    def locate(self, model: nn.Module, examples: Sequence[Example]) -> Device:
        """Say where parameters are, and where a forward pass over `examples` computes."""
        with compute.places(model) as activations:
            self.logits(model, examples)
        return compute.device_event(model, activations)

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, gradient: bool = False
    ) -> Floats:
        """Return logits at real positions, (tokens, vocabulary), in evaluation mode."""
        batch = self._padded(examples)
        found: Floats = scoring.logits(model, batch, gradient=gradient).cpu().numpy()
        return found.copy()  # which keeps no tensor alive

    def loss(self, model: nn.Module, examples: Sequence[Example]) -> tuple[float, int]:
        """Return (mean nats per counted token, counted tokens) in evaluation mode."""
        return scoring.loss(model, examples, self.tokenizer, self.backend.device)

    def dtypes(self, model: nn.Module) -> Mapping[str, torch.dtype]:
        """Return the dtype of each parameter, by name."""
        return {name: parameter.dtype for name, parameter in model.named_parameters()}

    def dequantized(self, base: Base) -> PreTrainedModel:
        """Load a plain model with the weights that the quantizer's stand for."""
        return loaders.dequantized(self.load(base), self._plain(), base.linears, self.quantizer)

    def generate(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue prompts; return each one's new tokens, the end token included if it came."""
        return self._decoder().generate(model, prompts, sampling)

    def drawn(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[tuple[list[int], Floats]]:
        """Continue prompts through the library; return new tokens, and by which scores."""
        found = self._decoder().scored(model, prompts, sampling)
        return [(tokens, scores.cpu().numpy()) for tokens, scores in found]

    def _decoder(self) -> generating.Decoder:
        theory = self.config.quantizer.theory
        # Where what enters a layer is rounded, all texts of a pass have their say in it.
        alone = theory is not None and theory.activation_bits is not None
        return generating.Decoder(self.tokenizer, self.backend.device, alone)

    def gradients(self, model: nn.Module, examples: Sequence[Example]) -> Mapping[str, Floats]:
        """Return the gradient of the mean nats for each parameter of an original, by its name."""
        return by_published_name(scoring.gradients(model, self._padded(examples)))

    def descend(
        self, model: nn.Module, batches: Sequence[Sequence[Example]], rate: float
    ) -> tuple[float, ...]:
        """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""
        return scoring.descend(model, map(self._padded, batches), rate)

    def _plain(self) -> PreTrainedModel:
        return from_pretrained(self.checkpoint, self.placement).to(self.backend.device)

    def _padded(self, examples: Sequence[Example]) -> TorchBatch:
        return pad(examples, self.tokenizer, self.backend.device)
