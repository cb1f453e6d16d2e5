"""What a checkpoint must have: a user's folder in, the same folder or what it lacks out.

Only names and the weights' index are read, so this takes no ML library and no time.
"""

from __future__ import annotations

import json
from pathlib import Path

from tunematrix.errors import BadInput

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class UnusableCheckpoint(BadInput):
    """A model that can't be loaded.

    Attributes:
        said: the same in a sentence that names no setting, for models that others name.
    """

    def __init__(self, path: Path | str, fault: str, cause: str, step: str) -> None:
        super().__init__(
            f"model.path={path} can't be used: {fault}.\nLikely cause: {cause}.\nNext step: {step}."
        )
        self.said = f"{path} can't be used: {fault}; likely {cause}; {step}"


def checked(folder: Path) -> Path:
    """Return the folder, once it holds a configuration, safetensors weights and a tokenizer.

    Raises:
        UnusableCheckpoint: anything of that is missing; weights in pickle form count as missing.
    """
    if not folder.is_dir():
        raise UnusableCheckpoint(
            folder,
            "there is no such folder",
            "a typing error, a path relative to another folder, or the name of a model on a hub",
            "give the path of a checkpoint folder; `tunematrix download` fetches one from a hub",
        )
    if not (folder / "config.json").is_file():
        raise _without_config(folder)
    _require_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UnusableCheckpoint(
            folder,
            f"it has no tokenizer (none of {', '.join(_TOKENIZER_FILES)})",
            "the model was saved without its tokenizer",
            "save it there too: AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
        )
    return folder


def _require_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = [shard for shard in _shards(index) if not (folder / shard).is_file()]
        if missing:
            raise UnusableCheckpoint(
                folder,
                f"{index.name} names {', '.join(missing)}, which isn't there",
                "an interrupted download or copy",
                "fetch the missing files again",
            )
    elif not any(folder.glob("*.safetensors")):
        raise _without_safetensors(folder)


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableCheckpoint(
            index.parent,
            f"{index.name} can't be read: {error!r}",
            "an interrupted download or copy",
            "fetch that file again",
        ) from error


def _without_config(folder: Path) -> UnusableCheckpoint:
    if (folder / "adapter_config.json").is_file():
        return UnusableCheckpoint(
            folder,
            "it has adapter_config.json but no config.json",
            "an adapter was saved there, not a model",
            "merge the adapter into its base and give the merged model's folder",
        )
    return UnusableCheckpoint(
        folder,
        "it has no config.json",
        "this is the folder above or below the checkpoint",
        "give the folder that holds config.json",
    )


def _without_safetensors(folder: Path) -> UnusableCheckpoint:
    if pickles := sorted(file.name for file in folder.glob("*.bin")):
        return UnusableCheckpoint(
            folder,
            f"it has no safetensors weights, only {', '.join(pickles)}",
            "an old checkpoint in pickle form, which could run any code when it's loaded",
            "convert one you trust: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
        )
    return UnusableCheckpoint(
        folder,
        "it has no safetensors weights",
        "an interrupted download, or a run that saved no weights",
        "fetch or save the weights again",
    )
