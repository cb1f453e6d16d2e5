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
from tunematrix.stack.quantizers.common import (
    Placement,
    TorchQuantizer,
    from_pretrained,
    from_saved,
)
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.sources import (
    ADAPTER,
    ROUTE,
    UNREADABLE,
    ModelSource,
    begin,
    find,
    require_plain,
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
    "load_served",
    "merged",
    "require_plain",
    "save_merged",
    "tokenizer_of",
    "unquantized",
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
    quantizer: TorchQuantizer = instantiate(config.quantizer.implementation, _convert_="all")
    weights = getattr(torch, dtype)
    placement = Placement(config.backend.device, weights, weights, Path(config.cache_dir or "."))
    return quantizer.load(source.base, layers_of(source).linears, placement)


def load(source: ModelSource, config: Configuration, dtype: str = "float32") -> nn.Module:
    """Load what was trained, to be asked and not to be trained on: unquantized, adapter on."""
    weights = getattr(torch, dtype)
    device = config.backend.device
    placement = Placement(device, weights, weights, Path(config.cache_dir or "."))
    model: nn.Module = (
        unquantized(from_saved(source.base, device)).to(weights)
        if source.quantized
        else from_pretrained(source.base, placement).to(device)
    )
    if source.adapter is not None:
        model = PeftModel.from_pretrained(model, str(source.adapter))
    return model.eval()


def load_served(source: ModelSource, config: Configuration, dtype: str) -> nn.Module:
    """Load what a server will: a quantized model as it was saved, and any other as `load` does."""
    if source.quantized and source.adapter is None:
        return from_saved(source.base, config.backend.device).eval()
    return load(source, config, dtype)


def unquantized(model: PreTrainedModel) -> PreTrainedModel:
    """Put the weights that a model's quantized layers stand for in their place."""
    packed = [
        (layer, name, parameter)
        for layer in model.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if hasattr(parameter, "__tensor_flatten__")
    ]
    if not packed:
        model.dequantize()
        return model
    for layer, name, parameter in packed:
        setattr(layer, name, nn.Parameter(parameter.dequantize()))
    # transformers has no word for this with torchao's tensors.
    model.hf_quantizer.remove_quantization_config(model)
    return model


def merged(source: ModelSource, config: Configuration) -> nn.Module:
    """Load a model in float32, its adapter merged into it if it has one."""
    model = load(source, config)
    if not isinstance(model, PeftModel):
        return model
    whole: nn.Module = model.merge_and_unload(safe_merge=True)
    return whole


def save_merged(source: ModelSource, config: Configuration, folder: Path) -> Path:
    """Merge an adapter into its base in float32, and save model and tokenizer.

    Returns:
        `folder`; the base's own folder where there is no adapter.
    """
    if source.adapter is None:
        return source.base
    merged(source, config).save_pretrained(folder)
    tokenizer_of(source).save_pretrained(folder)
    return folder
