"""The configuration files beside a saved model, and those of the base that it was trained from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import SavedSettings

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
FILES = ("config.json", "generation_config.json")
OWN = {
    "transformers_version", "use_cache", "dtype", "torch_dtype", "_from_model_config",
    "_name_or_path", "output_attentions", "output_hidden_states", "quantization_config",
}  # fmt: skip
"""What a trainer or a library may say of itself: versions, dtypes, switches of its passes."""


def compare(
    checkpoint: Path, folder: Path, tokenizer: PreTrainedTokenizerBase
) -> SavedSettings | None:
    """Say which settings of `folder` differ from its base's; None where it holds no model.

    A special token that is the tokenizer's own by now, and a setting that the base's file left to
    its default, are no differences.
    """
    if not (folder / FILES[0]).is_file():
        return None
    tokens = {key: getattr(tokenizer, key) for key in TOKENS}
    changed = (t for name in FILES for t in _changed(checkpoint / name, folder / name, tokens))
    return SavedSettings(folder.name, tuple(changed))


def _changed(base: Path, saved: Path, tokens: Mapping[str, int | None]) -> Iterator[str]:
    if not base.is_file():
        return
    before, after = _read(base), _read(saved)
    for key in sorted(before.keys() - OWN):
        was, now = before[key], after.get(key)
        aligned = now is not None and now == tokens.get(key)
        # Trainers make a list of several end tokens, or of one.
        listed = isinstance(now, list) and was in now
        if was not in (now, None) and not aligned and not listed:
            yield f"{saved.name}: {key} {json.dumps(was)} → {json.dumps(now)}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
