"""What the loss is asked to see, row by row, against the training rows as we tokenize them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunematrix.stack.engines.examples import IGNORED, Example

Row = tuple[int, ...]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class TorchLabelAudit:
    """Knows every training row: its ids, and which of them count.

    A row counts only if what it counts spells a text that the data form supervises, its
    end-of-sequence token included: what we tokenize ourselves vouches for nothing else.

    Args:
        examples: the rows; texts: what they may count; tokenizer: to decode them with.
        packed: whether a row of a batch holds several of them, one after the other.
        longest: tokens that a row may have; the trainer cuts longer ones.
        saw: takes the ids of each row that is as it should be.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        texts: Collection[str],
        tokenizer: PreTrainedTokenizerBase,
        packed: bool,
        longest: int,
        saw: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.packed, self.saw = packed, saw
        self.rows: dict[tuple[bytes, bytes], Row] = {}
        # All at once and before training begins, which would wait for it row by row.
        spelt = tokenizer.batch_decode(
            [
                [i for i, counts in zip(one.ids, one.counted, strict=True) if counts]
                for one in examples
            ],
            skip_special_tokens=False,
        )
        for example, text in zip(examples, spelt, strict=True):
            if text in texts:
                ids = np.array(example.ids[:longest], np.int64)
                marks = np.array(example.counted[:longest], np.bool_)
                self.rows[ids.tobytes(), marks.tobytes()] = example.ids[:longest]

    def faithful(self, inputs: Mapping[str, torch.Tensor]) -> int:
        """Return how many rows of a batch are training rows, whole, alone and rightly labelled.

        All are (rows, columns). Without a mask every position is real. In packed rows the first
        token of each text has no label, since nothing precedes it.
        """
        ids, labels = _array(inputs["input_ids"]), _array(inputs["labels"])
        mask = inputs.get("attention_mask")
        real = np.ones_like(ids, np.bool_) if mask is None else _array(mask) != 0
        if not self.packed:
            return int(sum(self._known(ids, labels, real)))
        # Without positions nothing keeps a row's texts apart: it counts as one, which it isn't.
        given = inputs.get("position_ids")
        alone = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        positions = alone if given is None else _array(given)
        rows = zip(ids, labels, real, positions, strict=True)
        return sum(all(self._pieces(*row)) for row in rows)

    def _pieces(self, ids: Ints, labels: Ints, real: Flags, positions: Ints) -> Iterator[bool]:
        starts = np.flatnonzero(positions == 0).tolist()
        for start, end in pairwise([*starts, len(ids)]):
            own = labels[start:end].copy()
            if own[0] == IGNORED:
                own[0] = ids[start]
            yield from self._known(ids[None, start:end], own[None], real[None, start:end])

    def _known(self, ids: Ints, labels: Ints, real: Flags) -> Iterator[bool]:
        """Say of each row whether its real positions are a training row, and the labels its own."""
        counted = labels != IGNORED
        foreign = (counted & ~(real & (labels == ids))).any(axis=1)
        for row, marks, here, bad in zip(ids, counted, real, foreign, strict=True):
            yield not bad and self._is_row(row[here].tobytes(), marks[here].tobytes())

    def _is_row(self, row: bytes, marks: bytes) -> bool:
        if (ids := self.rows.get((row, marks))) is None:
            return False
        self.saw(ids)
        return True


def _counted(example: Example) -> list[int]:
    return [i for i, counts in zip(example.ids, example.counted, strict=True) if counts]


def _array(tensor: torch.Tensor) -> Ints:
    return tensor.cpu().numpy().astype(np.int64, copy=False)
