"""How texts become tokens, by a checkpoint's own file and through no trainer's tokenizer.

Libraries put rules of their own in the place of a file's, cut, and mark. What is expected of them
is therefore computed by the `tokenizers` library from tokenizer.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import TokenizerRules

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
STORY = "Once upon a time there was a fox who lived by the sea."
PROBES = (
    STORY,
    " Once  upon\ta time,\nthere was a FOX; it's 2024-05-17, and 12345.678 + 9 = ?\n\n",
    "Año nuevo, naïve café: 速い茶色の狐 🦊 (ﬁ, e\u0301)",
    "def f(x):\n    return {'a': [x, 0x1F], \"b\": 'don\\'t'}  # 100%",
)
"""Texts in which rules of tokenizers differ: spaces, digits, capitals, accents, other scripts."""
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


class Rules(Protocol):
    """Makes tokens of texts, and texts of tokens; nothing is added, and nothing cut."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids."""

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of ids, special tokens included."""


@dataclass(frozen=True)
class FileRules:
    """The rules of a tokenizer.json."""

    words: Tokenizer

    @classmethod
    def read(cls, folder: Path) -> FileRules:
        """Read the file in a folder, and the special tokens that the settings beside it name."""
        words = Tokenizer.from_file(str(folder / FILE))
        words.no_truncation()
        words.no_padding()
        named = [text for text in _special(folder) if words.token_to_id(text) is None]
        words.add_special_tokens([AddedToken(text, special=True) for text in named])
        return cls(words)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids."""
        return [one.ids for one in self.words.encode_batch([*texts], add_special_tokens=False)]

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of ids, special tokens included."""
        return self.words.decode_batch([[*row] for row in rows], skip_special_tokens=False)


@dataclass(frozen=True)
class LibraryRules:
    """Those of a loaded tokenizer, where its checkpoint has no file that states them."""

    words: PreTrainedTokenizerBase

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids."""
        found = self.words([*texts], add_special_tokens=False)["input_ids"] if texts else []
        return [[*row] for row in found]

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of ids, special tokens included."""
        return list(self.words.batch_decode([[*row] for row in rows], skip_special_tokens=False))


def of(tokenizer: PreTrainedTokenizerBase) -> Rules:
    """Return the rules of the folder that a tokenizer was loaded from; without one, its own."""
    folder = Path(tokenizer.name_or_path)
    if not tokenizer.name_or_path or not (folder / FILE).is_file():
        return LibraryRules(tokenizer)
    return _read(folder, (folder / FILE).stat().st_mtime_ns)


@lru_cache
def _read(folder: Path, changed: int) -> FileRules:
    """Read a folder's file once for as long as it doesn't change."""
    return FileRules.read(folder)


def _special(folder: Path) -> list[str]:
    path = folder / SETTINGS
    if not path.is_file():
        return []
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = [*settings.get("added_tokens_decoder", {}).values()]
    found += [settings.get(name) for name in NAMED]
    texts = [one.get("content") if isinstance(one, dict) else one for one in found]
    return [text for text in dict.fromkeys(texts) if isinstance(text, str) and text]


def compare(tokenizer: PreTrainedTokenizerBase) -> TokenizerRules:
    """Hold a loaded tokenizer against the file of the folder that it was loaded from."""
    written = of(tokenizer)
    if isinstance(written, LibraryRules):
        return TokenizerRules(0, ())
    ends = str(tokenizer.eos_token or "")
    texts = (*PROBES, f"{STORY}{ends}{STORY}")
    pairs = zip(texts, LibraryRules(tokenizer).ids(texts), written.ids(texts), strict=True)
    others = (
        f"{text[:30]!r}: {len(found)} tokens, {len(due)} by the file"
        for text, found, due in pairs
        if found != due
    )
    return TokenizerRules(len(texts), tuple(others))
