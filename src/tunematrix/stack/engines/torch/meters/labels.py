"""What the loss is asked to see, row by row, against the rows of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from tunematrix.stack.engines.examples import IGNORED
from tunematrix.stack.engines.known_rows import Flags, Found, Ints, KnownRows, Misread


@dataclass(frozen=True)
class TorchLabelAudit:
    """Looks at batches.

    Attributes:
        known: the rows of the data.
        packed: whether a row of a batch holds several of them, one after the other.
        flat: whether all rows of a batch stand so in one, and are still looked at one by one.
    """

    known: KnownRows
    packed: bool
    flat: bool = False

    def look(self, inputs: Mapping[str, torch.Tensor]) -> Found:
        """Say which rows of a batch are rows of the data, whole, alone and rightly labelled.

        All are (rows, columns). Without a mask every position is real. Packed, a row is as it
        should be if each of its texts is, and the first token of all but the first has no label:
        what stands before it is another text.
        """
        ids, labels = _array(inputs["input_ids"]), _array(inputs["labels"])
        mask = inputs.get("attention_mask")
        real = np.ones_like(ids, np.bool_) if mask is None else _array(mask) != 0
        # Without positions nothing keeps a row's texts apart: it counts as one, which it isn't.
        given = inputs.get("position_ids") if self.packed or self.flat else None
        alone = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        positions = alone if given is None else _array(given)
        found = Found(texts=self.known.lengths() if self.packed else None)
        if self.flat:
            for stretch in zip(ids, labels, positions, strict=True):
                self._look_one_by_one(found, *stretch)
            return found
        # Of all rows at once: of short ones, each operator takes longer than what it does.
        counted = labels != IGNORED
        outside = (counted & ~real).any(axis=1)
        rows = zip(ids, labels, counted, positions, _kept(real), strict=True)
        for row, padding_counts in zip(rows, outside, strict=True):
            found.add(*self._row(*row, padding_counts=bool(padding_counts)))
        return found

    def _look_one_by_one(self, found: Found, ids: Ints, labels: Ints, positions: Ints) -> None:
        starts = [0, *np.flatnonzero(positions[1:] == 0) + 1]
        for start, end in pairwise([*starts, len(ids)]):
            row = slice(start, end)
            counted = labels[row] != IGNORED
            wrong, cut = self.known.judge(ids[row], labels[row], counted)
            # It would be predicted from the row before it.
            found.add("first" if start and counted[0] else wrong, cut)
        found.flat += len(starts)

    def _row(
        self,
        ids: Ints,
        labels: Ints,
        counted: Flags,
        positions: Ints,
        kept: slice | Flags,
        *,
        padding_counts: bool,
    ) -> tuple[Misread | None, bool]:
        ids, labels, counted = ids[kept], labels[kept], counted[kept]
        starts = np.flatnonzero(positions[kept] == 0).tolist() if self.packed else [0]
        pieces = [slice(*ends) for ends in pairwise([*starts, len(ids)])]
        judged = [self.known.judge(ids[one], labels[one], counted[one]) for one in pieces]
        if len(starts) > 1 and counted[starts[1:]].any():
            return "first", False
        if padding_counts:
            return "others", False
        wrong = [one for one, _ in judged if one is not None]
        return (wrong[0] if wrong else None), any(cut for _, cut in judged)


def _kept(real: Flags) -> Iterator[slice | Flags]:
    """Yield where each row is real: as one piece, which takes no copy, if it is one."""
    if not real.shape[1]:
        yield from (slice(0) for _ in real)
        return
    first, total = real.argmax(axis=1), real.sum(axis=1)
    last = real.shape[1] - real[:, ::-1].argmax(axis=1)
    for row, begin, end, count in zip(real, first.tolist(), last.tolist(), total, strict=True):
        yield slice(begin, begin + count) if count in (0, end - begin) else row


def _array(tensor: torch.Tensor) -> Ints:
    return tensor.cpu().numpy().astype(np.int64, copy=False)
