"""Configuration files beside a saved model, held against its base's."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tunematrix.stack.recipes.saved import compare
from tunematrix.stack.toyworld import models

TOKENIZER = AutoTokenizer.from_pretrained(models.BASE)
"""Texts end with its token 1, and are padded with 0."""
CUT = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
BASE = {"rope_theta": 10000.0, "eos_token_id": 2, "pad_token_id": 3, "use_cache": True}


@pytest.mark.parametrize(
    ("saved", "changed"),
    [
        ({}, ()),
        ({"use_cache": False, "dtype": "float16", "transformers_version": "9"}, ()),
        ({"something_new": 1}, ()),
        ({"rope_theta": 10100.0}, ("config.json: rope_theta 10000.0 → 10100.0",)),
        ({"eos_token_id": None}, ("config.json: eos_token_id 2 → null",)),
        ({"eos_token_id": 4}, ("config.json: eos_token_id 2 → 4",)),
        ({"eos_token_id": 1, "pad_token_id": 0}, ()),
        ({"eos_token_id": [2, 7]}, ()),
        ({"eos_token_id": [7]}, ("config.json: eos_token_id 2 → [7]",)),
    ],
)
def test_what_counts_as_changed(
    tmp_path: Path, saved: dict[str, Any], changed: tuple[str, ...]
) -> None:
    """Settings of the model, but not what trainers and libraries say of themselves."""
    for name, settings in (("base", BASE), ("model", {**BASE, **saved})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    found = compare(tmp_path / "base", tmp_path / "model", TOKENIZER)
    assert found is not None and (found.folder, found.changed) == ("model", changed)


def test_a_file_that_was_not_saved(tmp_path: Path) -> None:
    """All that it said is gone; and where nothing but an adapter lies, nothing is compared."""
    for name in ("base", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "base" / "generation_config.json").write_text('{"eos_token_id": 1}')
    found = compare(tmp_path / "base", tmp_path / "model", TOKENIZER)
    assert found is not None
    assert found.changed == ("generation_config.json: eos_token_id 1 → null",)
    assert compare(tmp_path / "base", tmp_path, TOKENIZER) is None


@pytest.mark.parametrize(
    ("base", "saved", "changed"),
    [
        ({}, {"temperature": None, "output_scores": True}, ()),
        ({"temperature": 1.0}, {"temperature": 1.0}, ()),
        ({}, {"top_k": 20}, ("generation_config.json: top_k not set → 20",)),
        ({}, {"top_k": 50}, ()),  # moved there from the model's own settings
        (
            {"max_new_tokens": 9},
            {"do_sample": True, "max_new_tokens": 8},
            (
                "generation_config.json: max_new_tokens 9 → 8",
                "generation_config.json: do_sample not set → true",
            ),
        ),
    ],
)
def test_how_texts_are_drawn(
    tmp_path: Path, base: dict[str, Any], saved: dict[str, Any], changed: tuple[str, ...]
) -> None:
    """A base that leaves it to its user is saved as one that does."""
    for name, settings in (("base", base), ("model", saved)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"top_k": 50}))
        (tmp_path / name / "generation_config.json").write_text(json.dumps(settings))
    found = compare(tmp_path / "base", tmp_path / "model", TOKENIZER)
    assert found is not None and found.changed == changed


def test_a_tokenizer_as_it_was(tmp_path: Path) -> None:
    """Whatever library saved it, and whether or not a model lies beside it."""
    TOKENIZER.save_pretrained(tmp_path)
    found = compare(models.BASE, tmp_path, TOKENIZER)
    assert found is not None and found.changed == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"chat_template": None}, "tokenizer_config.json: chat_template "),
        ({"eos_token": "<|pad|>"}, "tokenizer_config.json: eos_token_id 1 → 0"),
    ],
)
def test_a_tokenizer_that_was_saved_as_another(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    """Each of these is what users find out when the model talks to them."""
    other = copy.deepcopy(TOKENIZER)
    for name, value in change.items():
        setattr(other, name, value)
    other.save_pretrained(tmp_path)
    found = compare(models.BASE, tmp_path, TOKENIZER)
    assert found is not None and found.changed[0].startswith(told)


def test_a_tokenizer_with_other_rules(tmp_path: Path) -> None:
    """Special tokens and template are the same, and texts fall into others."""
    TOKENIZER.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    rules = json.loads(file.read_text())
    rules["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(rules))
    found = compare(models.BASE, tmp_path, TOKENIZER)
    assert found is not None and "a text of" in found.changed[0]


@pytest.mark.parametrize(
    ("file", "key", "value", "told"),
    [
        ("tokenizer.json", "truncation", CUT, "tokenizer.json: truncation null → "),
        (
            "tokenizer_config.json",
            "model_max_length",
            9,
            "tokenizer_config.json: model_max_length 512 → 9",
        ),
        ("tokenizer.json", "added_tokens", None, "tokenizer.json: special token <|assistant|>"),
    ],
)
def test_a_tokenizer_that_is_saved_otherwise(
    tmp_path: Path, file: str, key: str, value: Any, told: str
) -> None:
    """It cuts, has another length, or takes a special token for a word."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(models.BASE)
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / file).read_text())
    if value is None:
        marked = saved[key]
        value = [{**one, "special": "assistant" not in one["content"]} for one in marked]
    (tmp_path / file).write_text(json.dumps({**saved, key: value}))
    found = compare(tmp_path, tmp_path, tokenizer)
    assert found is not None
    assert any(one.startswith(told) for one in found.changed), found.changed
