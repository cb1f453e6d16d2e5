"""What the loss is asked to see, row by row, against the training rows as we tokenize them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from transformers import PreTrainedTokenizerBase

from tunematrix.stack.engines.examples import IGNORED, Example

Row = tuple[int, ...]
Marks = tuple[bool, ...]


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
        self.rows: dict[Row, set[Marks]] = {}
        for example in examples:
            counted = [i for i, counts in zip(example.ids, example.counted, strict=True) if counts]
            if tokenizer.decode(counted, skip_special_tokens=False) in texts:
                marks = self.rows.setdefault(example.ids[:longest], set())
                marks.add(example.counted[:longest])

    def faithful(self, inputs: Mapping[str, torch.Tensor]) -> int:
        """Return how many rows of a batch are training rows, whole, alone and rightly labelled.

        All are (rows, columns). Without a mask every position is real. In packed rows the first
        token of each text has no label, since nothing precedes it.
        """
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        real = torch.ones_like(ids) if mask is None else mask
        columns = (tensor.tolist() for tensor in (ids, inputs["labels"], real))
        if not self.packed:
            return sum(self._is_known(*row) for row in zip(*columns, strict=True))
        # Without positions nothing keeps a row's texts apart: it counts as one, which it isn't.
        positions = inputs.get("position_ids")
        if positions is None:
            positions = torch.arange(ids.shape[1]).expand(ids.shape)
        rows = zip(*columns, positions.tolist(), strict=True)
        return sum(all(self._pieces(*row)) for row in rows)

    def _pieces(
        self, inputs: list[int], labels: list[int], real: list[int], positions: list[int]
    ) -> Iterator[bool]:
        starts = [index for index, position in enumerate(positions) if position == 0]
        for start, end in pairwise([*starts, len(inputs)]):
            first = inputs[start] if labels[start] == IGNORED else labels[start]
            own = [first, *labels[start + 1 : end]]
            yield self._is_known(inputs[start:end], own, real[start:end])

    def _is_known(self, inputs: list[int], labels: list[int], real: list[int]) -> bool:
        """Return whether the real positions are a training row, and the labels its own."""
        seen = [index for index, flag in enumerate(real) if flag]
        marks = tuple(labels[index] != IGNORED for index in seen)
        row = tuple(inputs[index] for index in seen)
        if marks not in self.rows.get(row, ()):
            return False
        unreal = (label for label, flag in zip(labels, real, strict=True) if not flag)
        known = all(label == IGNORED for label in unreal) and all(
            labels[index] in (IGNORED, inputs[index]) for index in seen
        )
        if known:
            self.saw(row)
        return known
