from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunematrix.errors import BadInput
from tunematrix.stack.toyworld import models, tokenizer


def test_base_and_its_tokenizer_load_from_files_alone(tmp_path: Path) -> None:
    """The shipped checkpoint is whole, small, and made with the tokenizer of this version."""
    folder = models.resolve("toyworld://base", tmp_path)
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    assert not any(loading.values())
    assert model.num_parameters() < 400_000
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert words.get_vocab() == tokenizer.build().get_vocab()
    assert words.get_chat_template() == tokenizer.CHAT_TEMPLATE
    assert (model.config.pad_token_id, model.config.eos_token_id) == (
        words.pad_token_id,
        words.eos_token_id,
    )


def test_wide_is_made_once(tmp_path: Path) -> None:
    """Four at a time get the same folder, and a fifth doesn't make it again."""
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(models.resolve, ["toyworld://wide"] * 4, [tmp_path] * 4))
    (folder,) = folders
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert models.resolve("toyworld://wide", tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert not list(tmp_path.glob("*.unfinished"))


def test_wide_survives_an_interrupted_attempt(tmp_path: Path) -> None:
    """What a killed process left unfinished is thrown away, not taken for the model."""
    folder = models.resolve("toyworld://wide", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    unfinished = folder.rename(folder.with_suffix(".unfinished"))
    (unfinished / "model.safetensors").write_bytes(b"torn")
    (unfinished / "left-over").touch()
    assert models.resolve("toyworld://wide", tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == whole
    assert not (folder / "left-over").exists()


def test_wide_is_a_whole_llama_of_25_million_parameters(tmp_path: Path) -> None:
    """Every weight is there, spread as Llama initialises it; every layer fits groups of 128."""
    folder = models.resolve("toyworld://wide", tmp_path)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert model.num_parameters() == pytest.approx(25.8e6, rel=0.01)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            assert torch.equal(weight, torch.ones_like(weight))
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.02)
            assert all(size % 128 == 0 for size in weight.shape)


def test_an_unknown_toy_world_name_is_refused(tmp_path: Path) -> None:
    """The names there are stand in the text."""
    with pytest.raises(BadInput, match="has no model 'bsae'") as caught:
        models.resolve("toyworld://bsae", tmp_path)
    assert "toyworld://base, toyworld://wide" in str(caught.value)


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    """A path is checked and used as it is; `~` is the home folder."""
    assert models.resolve(str(models.BASE), tmp_path) == models.BASE
    with pytest.raises(BadInput, match="there is no such folder"):
        models.resolve("~/no such checkpoint", tmp_path)
