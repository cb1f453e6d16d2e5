"""A folder of a model, or of an adapter → its base, its tokenizer, and the model itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from tunematrix.configuration import Configuration
from tunematrix.errors import WrongSetting
from tunematrix.evidence.events import StepBegun
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.methods.common import describe
from tunematrix.stack.quantizers.common import (
    Placement,
    TorchQuantizer,
    from_pretrained,
    from_saved,
)
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.toyworld import models
from tunematrix.stack.toyworld.checkpoint import UnusableCheckpoint, checked

ROUTE = ("model", "path")
ADAPTER = "adapter_config.json"
OPENED = ("bitsandbytes", "torchao")
"""What transformers calls the libraries whose quantized models can be opened here."""
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
"""What libraries raise for the folder of a model that isn't what it says."""
_TOKENIZER = "tokenizer_config.json"
_WHOLE = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""What transformers calls a tokenizer that is nothing but its file, before release 5 and since."""


@dataclass(frozen=True)
class ModelSource:
    """What a step begins with.

    Attributes:
        path: the folder that it was given.
        base: folder of the base model; adapter: that of the adapter over it, None for none.
        quantized: what the base was quantized by when it was saved; empty for nothing.
    """

    path: Path
    base: Path
    adapter: Path | None = None
    quantized: str = ""


def find(path: str, config: Configuration) -> ModelSource:
    """Find a model, or an adapter and its base.

    Args:
        path: a folder, or `toyworld://` and the name of one of our own models.
        config: the cell's.

    Raises:
        WrongSetting: the folder isn't there, or lacks what a model must have.
    """
    folder = Path(path).expanduser()
    try:
        if not (folder / ADAPTER).is_file():
            found = models.resolve(path, Path(config.cache_dir or ".")).resolve()
            return ModelSource(found, found, quantized=_quantized_by(found))
        base = _base_of(folder)
        if not any(folder.glob("*.safetensors")):
            text = "has adapter_config.json and no adapter_model.safetensors; save it again"
            raise WrongSetting(ROUTE, f"{path}: {text}")
        quantized = _quantized_by(checked(base))
        return ModelSource(folder.resolve(), base, folder.resolve(), quantized)
    except UnusableCheckpoint as error:
        raise WrongSetting(ROUTE, error.said) from None


def require_plain(source: ModelSource, job: StepJob) -> None:
    """See that a model's weights are as they were trained.

    Raises:
        WrongSetting: they were quantized when it was saved.
    """
    if source.quantized:
        text = f"{source.base} is quantized already, by {source.quantized}, and {job.name} would"
        advice = "give the folder of the model that it was made from"
        raise WrongSetting(ROUTE, f"{text} quantize what is rounded, or train over it; {advice}")


def _quantized_by(base: Path) -> str:
    """Return the library that a model was quantized by; "" for none.

    Raises:
        WrongSetting: it is one that can't be opened here.
    """
    try:
        settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
        found = settings.get("quantization_config") or {}
        name = str(found.get("quant_method", "")) if found else ""
    except (OSError, ValueError, AttributeError) as error:
        text = f"{base / 'config.json'} can't be read ({type(error).__name__})"
        raise WrongSetting(ROUTE, f"{text}; save or fetch the model again") from None
    if not found or name in OPENED:
        return name
    text = f"{base} is quantized by {name or 'an unnamed method'}; of quantized models, those that"
    raise WrongSetting(ROUTE, f"{text} finalize writes can be opened: {', '.join(OPENED)}")


def unreadable(path: str, error: BaseException) -> WrongSetting:
    """Return what a user is told of a model that no library can load.

    Raises:
        OutOfMemoryError: that is the error, which says nothing of the model's folder.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        raise error
    said = " ".join(str(error).split())[:300]
    text = f"{path} can't be loaded ({type(error).__name__}: {said})"
    advice = "likely files of several models in one folder, or an interrupted copy"
    return WrongSetting(ROUTE, f"{text}; {advice}: save or fetch it again")


def begin(source: ModelSource, job: StepJob, does: str) -> None:
    """Write down what a step begins with, and what it is about to do."""
    adapter = "" if source.adapter is None else str(source.adapter)
    folders = (str(source.path), str(source.base), adapter, str(job.output_dir))
    job.events.write(StepBegun(job.name, *folders, does))


def _base_of(adapter: Path) -> Path:
    try:
        named = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
        base = Path(str(named["base_model_name_or_path"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{adapter / ADAPTER} can't be read ({type(error).__name__}); save the adapter again"
        raise WrongSetting(ROUTE, text) from None
    if base.is_dir():
        return base
    raise WrongSetting(
        ROUTE,
        f"{adapter} is an adapter over {base}, and there is no such folder; likely the base model "
        f"was moved, or is named as on the Hub: correct base_model_name_or_path in {ADAPTER}",
    )


def tokenizer_of(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the tokenizer that was saved with the adapter, else the base's; it can pad."""
    own = source.adapter if source.adapter and (source.adapter / _TOKENIZER).is_file() else None
    folder = own or source.base
    # By the model's type, AutoTokenizer puts rules of some in the place of those in the file.
    loader = PreTrainedTokenizerFast if _has_own_rules(folder) else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _has_own_rules(folder: Path) -> bool:
    """Whether a tokenizer says that all of it is in its file."""
    try:
        said = json.loads((folder / _TOKENIZER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    whole = (folder / "tokenizer.json").is_file() and isinstance(said, dict)
    return whole and said.get("tokenizer_class") in _WHOLE


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
