"""What a saved model's files say of its tensors: no model is loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEAD, EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
"""The dtypes of weights, as safetensors names them, and as configurations do."""
LENGTH = 8
"""Bytes of the number that a safetensors file begins with: the size of its header."""


class TensorSpan(NamedTuple):
    """Where the bytes of a tensor are, and what they are."""

    name: str
    dtype: str
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


def dtype_of_most(folder: Path) -> str | None:
    """Return the dtype of most bytes of a model's floating-point weights; None without any."""
    sizes = Counter[str]()
    for span in _spans(folder):
        if span.dtype in FLOATS:
            sizes[FLOATS[span.dtype]] += span.end - span.begin
    return max(sizes, key=sizes.__getitem__) if sizes else None


def _place(folder: Path, ending: str) -> TensorSpan | None:
    return next((span for span in _spans(folder) if span.name.endswith(ending)), None)


def _spans(folder: Path) -> Iterator[TensorSpan]:
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(LENGTH), "little")
            header = json.loads(opened.read(size))
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            begin, end = (LENGTH + size + offset for offset in tensor["data_offsets"])
            yield TensorSpan(name, tensor["dtype"], file, begin, end)


def _bytes(place: TensorSpan) -> bytes:
    with place.file.open("rb") as opened:
        opened.seek(place.begin)
        return opened.read(place.end - place.begin)
