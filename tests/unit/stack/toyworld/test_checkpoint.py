from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.stack.toyworld import checkpoint

WHOLE = ("config.json", "model.safetensors", "tokenizer.json")


def folder_with(folder: Path, *names: str) -> Path:
    """A new folder with these files; their content doesn't matter."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return folder


def refusal(folder: Path) -> str:
    """What the user is told about the folder."""
    with pytest.raises(BadInput) as caught:
        checkpoint.checked(folder)
    return str(caught.value)


def test_a_whole_checkpoint_is_accepted(tmp_path: Path) -> None:
    """Configuration, safetensors weights and a tokenizer are enough."""
    folder = folder_with(tmp_path / "model", *WHOLE)
    assert checkpoint.checked(folder) == folder


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("config.json", "it has no config.json"),
        ("model.safetensors", "it has no safetensors weights"),
        ("tokenizer.json", "it has no tokenizer"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, named: str) -> None:
    """The text says where, what, the likely cause and the next step."""
    folder = folder_with(tmp_path / "model", *(name for name in WHOLE if name != missing))
    text = refusal(folder)
    assert f"model.path={folder} can't be used: {named}" in text
    assert "\nLikely cause: " in text
    assert "\nNext step: " in text


def test_no_folder_at_all(tmp_path: Path) -> None:
    """A hub's name or a misspelt path is no checkpoint folder."""
    assert "there is no such folder" in refusal(tmp_path / "nowhere")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """A pickle can run code when it's loaded, so it's named and the way out is shown."""
    folder = folder_with(tmp_path / "old", "config.json", "tokenizer.json", "pytorch_model.bin")
    text = refusal(folder)
    assert "only pytorch_model.bin" in text
    assert "pickle" in text
    assert "save_pretrained" in text


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    """The folder of a saved adapter is recognised, and merging is proposed."""
    folder = folder_with(tmp_path / "adapter", "adapter_config.json", "adapter_model.safetensors")
    assert "merge the adapter" in refusal(folder)


def test_every_shard_of_the_index_is_there(tmp_path: Path) -> None:
    """A sharded checkpoint is accepted when it's complete; a missing shard is named."""
    folder = folder_with(tmp_path / "sharded", "config.json", "tokenizer.json", "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert "names b.safetensors, which isn't there" in refusal(folder)
    (folder / "b.safetensors").touch()
    assert checkpoint.checked(folder) == folder


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 1}'])
def test_a_broken_index_is_no_crash(tmp_path: Path, content: str) -> None:
    """An index that was cut off, or says something else, is refused in words."""
    folder = folder_with(tmp_path / "broken", "config.json", "tokenizer.json")
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json can't be read" in refusal(folder)
