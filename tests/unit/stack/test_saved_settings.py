"""Configuration files beside a saved model, held against its base's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tunematrix.stack.recipes.saved import compare
from tunematrix.stack.toyworld import models

TOKENIZER = AutoTokenizer.from_pretrained(models.BASE)
"""Texts end with its token 1, and are padded with 0."""
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
