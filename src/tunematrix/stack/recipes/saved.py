"""What lies beside saved weights: the model's configuration, and the tokenizer."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import SavedSettings
from tunematrix.stack.engines import rules
from tunematrix.stack.recipes.heads import dtype_of_most, has_own_head

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
DRAWN_BY = "generation_config.json"
FILES = ("config.json", DRAWN_BY)
TOKENIZER = "tokenizer_config.json"
UNTIED = "tie_word_embeddings true → false"
KEPT = (
    "padding_side", "truncation_side", "chat_template", "model_max_length", "all_special_tokens",
    "clean_up_tokenization_spaces", "add_bos_token", "add_eos_token",
)  # fmt: skip
LONG = 200
"""So many stories in a row are longer than any limit that somebody would set by default."""
PACKED = ("quantization", "quantization_config")
"""Keys of configurations whose weights are packed: what is float beside them are scales."""
OWN = {
    "transformers_version", "use_cache", "dtype", "torch_dtype", "_from_model_config",
    "_name_or_path", "output_attentions", "output_hidden_states", "quantization_config",
}  # fmt: skip
"""What a trainer or a library may say of itself: versions, dtypes, switches of its passes."""
DRAWING = {
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff",
    "eta_cutoff", "penalty_alpha", "repetition_penalty", "no_repeat_ngram_size", "num_beams",
    "length_penalty", "max_length", "max_new_tokens", "min_length", "min_new_tokens",
    "bad_words_ids", "suppress_tokens", "forced_eos_token_id",
}  # fmt: skip
"""Settings by which a model writes another text; a base that names none leaves them to its user."""


def compare(
    checkpoint: Path,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    names_dtype: bool = True,
) -> SavedSettings | None:
    """Say which settings of `folder` differ from its base's; None where it holds neither kind.

    A special token that is the tokenizer's own by now, and a setting that the base's file left to
    its default, are no differences.

    Args:
        names_dtype: whether who saves says the weights' dtype anew, and doesn't copy the base's.
    """
    changed = [*_of_the_model(checkpoint, folder, tokenizer), *_of_the_tokenizer(folder, tokenizer)]
    if names_dtype:
        changed += _of_the_dtype(folder)
    has_any = any((folder / name).is_file() for name in (FILES[0], TOKENIZER))
    return SavedSettings(folder.name, tuple(changed)) if has_any else None


def _of_the_model(
    checkpoint: Path, folder: Path, tokenizer: PreTrainedTokenizerBase
) -> Iterator[str]:
    if not (folder / FILES[0]).is_file():
        return
    tokens = {key: getattr(tokenizer, key) for key in TOKENS}
    own_head = has_own_head(folder)
    for name in FILES:
        for change in _changed(checkpoint / name, folder / name, tokens):
            # What was trained, or merged, apart from the embeddings can't be tied to them any more.
            if not (own_head and change.endswith(UNTIED)):
                yield change


def _of_the_dtype(folder: Path) -> Iterator[str]:
    """Say that weights have another dtype than the settings beside them, which loaders go by."""
    settings = _read(folder / FILES[0])
    named = settings.get("dtype", settings.get("torch_dtype"))
    found = dtype_of_most(folder)
    is_packed = any(key in settings for key in PACKED)
    if named is not None and found is not None and not is_packed and named != found:
        yield f"{FILES[0]}: dtype {named}, but the weights beside it are {found}"


def _of_the_tokenizer(folder: Path, trained: PreTrainedTokenizerBase) -> Iterator[str]:
    """Say in what the tokenizer of `folder`, loaded anew, isn't the one that was trained with."""
    if not (folder / TOKENIZER).is_file():
        return
    loaded = type(trained).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for what in (*TOKENS, *KEPT):
        before, after = (getattr(one, what, None) for one in (trained, loaded))
        if before != after:
            yield f"{TOKENIZER}: {what} {_short(before)} → {_short(after)}"
    words, found = trained.get_vocab().items(), loaded.get_vocab().items()
    if apart := len(words ^ found):
        yield f"{TOKENIZER}: another vocabulary, by {apart} entries"
    yield from _of_its_texts(trained, loaded)
    if (folder / rules.FILE).is_file():
        yield from _of_its_file(folder, trained)


def _of_its_texts(
    trained: PreTrainedTokenizerBase, loaded: PreTrainedTokenizerBase
) -> Iterator[str]:
    """Say which texts become other tokens than before, and which tokens another text."""
    texts = (*rules.PROBES, rules.STORY * LONG, "".join(map(str, trained.all_special_tokens)))
    for text in texts:
        before, after = (
            one(text, add_special_tokens=True, verbose=False).input_ids for one in (trained, loaded)
        )
        if before != after:
            yield f"{TOKENIZER}: a text of {len(before)} tokens → {len(after)}, or others"
            return
        told = [one.decode(before, skip_special_tokens=True) for one in (trained, loaded)]
        if told[0] != told[1]:
            yield f"{TOKENIZER}: the text of tokens {_short(told[0])} → {_short(told[1])}"
            return


def _of_its_file(folder: Path, trained: PreTrainedTokenizerBase) -> Iterator[str]:
    """Say what other programs would do otherwise, which read tokenizer.json alone."""
    if not isinstance(rules.of(trained), rules.FileRules):
        return
    base, saved = (
        Tokenizer.from_file(str(Path(where) / rules.FILE))
        for where in (trained.name_or_path, folder)
    )
    for what in ("truncation", "padding"):
        before, after = (getattr(one, what) for one in (base, saved))
        if before != after:
            yield f"{rules.FILE}: {what} {_short(before)} → {_short(after)}"
    before, after = (
        {token.content: token.special for token in one.get_added_tokens_decoder().values()}
        for one in (base, saved)
    )
    for text in sorted(before.keys() | after.keys()):
        if before.get(text) != after.get(text):
            yield f"{rules.FILE}: special token {text} {_special(before, text)} → " + _special(
                after, text
            )


def _special(tokens: Mapping[str, bool], text: str) -> str:
    return {True: "special", False: "a plain word", None: "missing"}[tokens.get(text)]


def _short(value: object) -> str:
    return textwrap.shorten(json.dumps(value), 40, placeholder="…")


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
    # Before 5.0, transformers moves there what the model's own settings say of it.
    moved = _read(base.with_name("config.json"))
    for key in sorted((after.keys() & DRAWING) - before.keys()):
        if saved.name == DRAWN_BY and after[key] not in (None, moved.get(key)):
            yield f"{saved.name}: {key} not set → {json.dumps(after[key])}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
