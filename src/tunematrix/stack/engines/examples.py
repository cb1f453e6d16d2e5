"""Texts → tokenized examples, and all that one cell trains on and is judged by; no tensors yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunematrix.stack.engines.rules import Rules

IGNORED = -100
"""The label that a loss leaves out."""


@dataclass(frozen=True)
class Example:
    """One tokenized row.

    Attributes:
        ids: token ids; counted: for each, whether the loss counts it.
    """

    ids: tuple[int, ...]
    counted: tuple[bool, ...]


@dataclass(frozen=True)
class Data:
    """Everything one cell trains on and is judged by.

    Attributes:
        rows: training rows as TRL takes them; examples: the same, tokenized by us.
        texts: what the loss may count, one text per training row.
        held_out: examples never trained on; floor: their exact mean nats per counted token.
        held_out_rows: the same examples as TRL takes them; held_out_texts: as `texts`, of them.
    """

    rows: Sequence[Mapping[str, Any]]
    examples: Sequence[Example]
    texts: frozenset[str]
    held_out: Sequence[Example]
    floor: float
    held_out_rows: Sequence[Mapping[str, Any]] = ()
    held_out_texts: frozenset[str] = frozenset()


def tokenize(rules: Rules, context: str, counted: str) -> Example:
    """Tokenize a context that doesn't count, followed by a text that does."""
    return tokenize_all(rules, [(context, counted)])[0]


def tokenize_all(rules: Rules, pairs: Sequence[tuple[str, str]]) -> list[Example]:
    """Tokenize many pairs of a context and a text as `tokenize` does one, in a single call."""
    texts = [text for pair in pairs for text in pair]
    ids = rules.ids(texts)
    # A context may be empty: a tokenizer that begins texts with a mark would mark nothing.
    before = [one if text else [] for one, text in zip(ids[::2], texts[::2], strict=True)]
    return [
        Example(
            ids=(*context, *counted),
            counted=(*(False for _ in context), *(True for _ in counted)),
        )
        for context, counted in zip(before, ids[1::2], strict=True)
    ]


def after(context: Sequence[int], example: Example) -> Example:
    """Return what counts of an example, after another context."""
    marked = zip(example.ids, example.counted, strict=True)
    counted = tuple(token for token, counts in marked if counts)
    marks = (*(False for _ in context), *(True for _ in counted))
    return Example((*context, *counted), marks)
