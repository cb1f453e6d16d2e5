"""Whether a saved model has an output head of its own: its files' bytes, and no model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

HEAD, EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"
LENGTH = 8
"""Bytes of the number that a safetensors file begins with: the size of its header."""


class TensorSpan(NamedTuple):
    """Where the bytes of a tensor are."""

    file: Path
    begin: int
    end: int


def has_own_head(folder: Path) -> bool:
    """Whether the files hold a head that is another than the embeddings, bit by bit."""
    places = [_place(folder, ending) for ending in (HEAD, EMBEDDINGS)]
    if any(place is None for place in places):
        return False
    head, embeddings = (_bytes(place) for place in places if place is not None)
    return head != embeddings


def _place(folder: Path, ending: str) -> TensorSpan | None:
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(LENGTH), "little")
            header = json.loads(opened.read(size))
        for name, tensor in header.items():
            if name.endswith(ending):
                begin, end = (LENGTH + size + offset for offset in tensor["data_offsets"])
                return TensorSpan(file, begin, end)
    return None


def _bytes(place: TensorSpan) -> bytes:
    with place.file.open("rb") as opened:
        opened.seek(place.begin)
        return opened.read(place.end - place.begin)
