"""A folder of a model, or of an adapter → its base and its tokenizer; no weight is read yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunematrix.configuration import Configuration
from tunematrix.errors import BadInput, WrongSetting
from tunematrix.evidence.events import StepBegun
from tunematrix.stack import adapters
from tunematrix.stack.adapters import Format, format_of
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
_BASE_NAMED: dict[Format, str] = {"peft": adapters.PEFT_BASE, "mlx-lm": adapters.MLX_BASE}
"""The entry of an adapter's configuration that names its base."""


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


def find(path: str, config: Configuration, read: Format = "peft") -> ModelSource:
    """Find a model, or an adapter and its base.

    Args:
        path: a folder, or `toyworld://` and the name of one of our own models.
        config: the cell's.
        read: format of the adapters that the cell's engine reads.

    Raises:
        WrongSetting: the folder isn't there, or lacks what a model must have.
    """
    folder = Path(path).expanduser()
    try:
        if not (folder / ADAPTER).is_file():
            found = models.resolve(path, Path(config.cache_dir or ".")).resolve()
            return ModelSource(found, found, quantized=_quantized_by(found, read))
        base = _base_of(folder, read)
        if not any(folder.glob("*.safetensors")):
            tensors = adapters.PEFT_TENSORS if read == "peft" else adapters.MLX_TENSORS
            text = f"has adapter_config.json and no {tensors}; save it again"
            raise WrongSetting(ROUTE, f"{path}: {text}")
        quantized = _quantized_by(checked(base), read)
        return ModelSource(folder.resolve(), base, folder.resolve(), quantized)
    except UnusableCheckpoint as error:
        raise WrongSetting(ROUTE, error.said) from None


def unreadable(path: str, error: BaseException) -> WrongSetting:
    """Return what a user is told of a model that no library can load."""
    said = " ".join(str(error).split())[:300]
    text = f"{path} can't be loaded ({type(error).__name__}: {said})"
    advice = "likely files of several models in one folder, or an interrupted copy"
    return WrongSetting(ROUTE, f"{text}; {advice}: save or fetch it again")


def begin(source: ModelSource, job: StepJob, does: str) -> None:
    """Write down what a step begins with, and what it is about to do."""
    adapter = "" if source.adapter is None else str(source.adapter)
    folders = (str(source.path), str(source.base), adapter, str(job.output_dir))
    job.events.write(StepBegun(job.name, *folders, does))


def require_plain(source: ModelSource, job: StepJob) -> None:
    """See that a model's weights are as they were trained.

    Raises:
        WrongSetting: they were quantized when it was saved.
    """
    if source.quantized:
        text = f"{source.base} is quantized already, by {source.quantized}, and {job.name} would"
        advice = "give the folder of the model that it was made from"
        raise WrongSetting(ROUTE, f"{text} quantize what is rounded, or train over it; {advice}")


def _quantized_by(base: Path, read: Format) -> str:
    """Return the library that a model was quantized by; "" for none, or where mlx-lm opens it.

    Raises:
        WrongSetting: it is one that can't be opened here, or config.json can't be read.
    """
    if read != "peft":
        return ""
    try:
        settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
        found = settings.get("quantization_config") or {}
        name = str(found.get("quant_method", "")) if found else ""
    except (OSError, ValueError, AttributeError) as error:
        raise unreadable(str(base), error) from None
    if not found or name in OPENED:
        return name
    text = f"{base} is quantized by {name or 'an unnamed method'}; of quantized models, those that"
    raise WrongSetting(ROUTE, f"{text} finalize writes can be opened: {', '.join(OPENED)}")


def _base_of(adapter: Path, read: Format) -> Path:
    _check_format(adapter, read)
    entry = _BASE_NAMED[read]
    try:
        named = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
        base = Path(str(named[entry]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{adapter / ADAPTER} can't be read ({type(error).__name__}); save the adapter again"
        raise WrongSetting(ROUTE, text) from None
    if base.is_dir():
        return base
    raise WrongSetting(
        ROUTE,
        f"{adapter} is an adapter over {base}, and there is no such folder; likely the base model "
        f"was moved, or is named as on the Hub: correct {entry} in {ADAPTER}",
    )


def _check_format(adapter: Path, read: Format) -> None:
    """See that an adapter is one that the cell's engine reads.

    Raises:
        WrongSetting: it is of the other format.
    """
    try:
        found = format_of(adapter)
    except BadInput:
        return  # what it says instead is said where it is read
    if found != read:
        text = f"{adapter} is an adapter as {found} saves it, and this device reads those of {read}"
        advice = "convert it: python -m tunematrix.stack.adapters FOLDER NEW_FOLDER"
        raise WrongSetting(ROUTE, f"{text}; {advice}")


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
