"""A folder of a model, or of an adapter → the model itself, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch
from hydra.utils import instantiate
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from tunematrix.configuration import Configuration
from tunematrix.errors import WrongSetting
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.methods.common import describe
from tunematrix.stack.quantizers.common import Placement, TorchQuantizer, from_pretrained
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.sources import (
    ADAPTER,
    ROUTE,
    UNREADABLE,
    ModelSource,
    begin,
    find,
    tokenizer_of,
)

__all__ = [
    "ADAPTER",
    "ROUTE",
    "UNREADABLE",
    "ModelSource",
    "begin",
    "find",
    "layers_of",
    "load",
    "load_base",
    "save_merged",
    "tokenizer_of",
    "unreadable",
]


def unreadable(path: str, error: BaseException) -> WrongSetting:
    """Return what a user is told of a model that no library can load.

    Raises:
        OutOfMemoryError: that is the error, which says nothing of the model's folder.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        raise error
    return sources.unreadable(path, error)


def layers_of(source: ModelSource) -> Base:
    """Describe the base model by its configuration alone; no weight is read."""
    settings = AutoConfig.from_pretrained(
        source.base, local_files_only=True, trust_remote_code=False
    )
    with torch.device("meta"):
        return describe(AutoModelForCausalLM.from_config(settings, trust_remote_code=False))


def load_base(
    source: ModelSource, config: Configuration, dtype: str = "float32"
) -> PreTrainedModel:
    """Load the base model as the cell's quantizer stores it, onto the cell's device."""
    quantizer: TorchQuantizer = instantiate(config.quantizer.implementation)
    weights = getattr(torch, dtype)
    placement = Placement(config.backend.device, weights, weights, Path(config.cache_dir or "."))
    return quantizer.load(source.base, layers_of(source).linears, placement)


def load(source: ModelSource, config: Configuration, dtype: str = "float32") -> nn.Module:
    """Load what was trained, to be asked and not to be trained on: unquantized, adapter on."""
    weights = getattr(torch, dtype)
    device = config.backend.device
    placement = Placement(device, weights, weights, Path(config.cache_dir or "."))
    model: nn.Module = from_pretrained(source.base, placement).to(device)
    if source.adapter is not None:
        model = PeftModel.from_pretrained(model, str(source.adapter))
    return model.eval()


def save_merged(source: ModelSource, config: Configuration, folder: Path) -> Path:
    """Merge an adapter into its base in float32, and save model and tokenizer.

    Returns:
        `folder`; the base's own folder where there is no adapter.
    """
    if source.adapter is None:
        return source.base
    model = load(source, config)
    assert isinstance(model, PeftModel)
    merged = model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(folder)
    tokenizer_of(source).save_pretrained(folder)
    return folder
