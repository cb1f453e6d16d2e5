"""What mlx-lm's loss counts, asked of the loss itself, and whether that is what it should count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunematrix.stack.yardsticks.blame import passing

Loss = Callable[..., tuple[mx.array, mx.array]]
"""mlx-lm's form: model, batch and lengths go in; mean nats and counted tokens come out."""


@dataclass(frozen=True)
class Counted:
    """What a loss counts in a batch.

    Attributes:
        targets: (rows, columns - 1), the token that each position should predict.
        mask: of that shape, whether it counts.
    """

    targets: mx.array
    mask: mx.array

    @property
    def tokens(self) -> int:
        """How many tokens count."""
        return int(self.mask.sum().item())

    def rows(self, batch: mx.array) -> Iterator[NDArray[np.int32]]:
        """Yield each row's counted tokens; nothing predicts a row's first, so it comes free."""
        ids, targets, mask = np.array(batch), np.array(self.targets), np.array(self.mask)
        for row, target, counts in zip(ids, targets, mask, strict=True):
            first = row[:1] if counts[:1].any() else row[:0]
            yield np.concatenate([first, target[counts]])


def counted(loss: Loss, batch: mx.array, lengths: mx.array, vocabulary: int) -> Counted:
    """Find what `loss` counts by its slope: at equal logits, only a target's logit is to rise."""
    rows, columns = batch.shape
    if rows == 0 or columns < 2:  # nothing is predicted
        return Counted(batch[:, 1:], mx.zeros(batch[:, 1:].shape, mx.bool_))
    slopes = mx.grad(lambda logits: passing(loss, lambda _: logits, batch, lengths)[0])(
        mx.zeros((rows, columns - 1, vocabulary))
    )
    return Counted(targets=slopes.argmin(axis=-1), mask=(slopes != 0).any(axis=-1))


@dataclass(frozen=True)
class MlxLabelAudit:
    """What a row's counted tokens may spell.

    Attributes:
        texts: every text that the data form supervises, end-of-sequence token included.
        tokenizer: to decode them with.
    """

    texts: frozenset[str]
    tokenizer: PreTrainedTokenizerBase

    def faithful(self, batch: mx.array, found: Counted) -> int:
        """Return how many rows count exactly one of the texts."""
        spelt = (self.tokenizer.decode(row, skip_special_tokens=False) for row in found.rows(batch))
        return sum(text in self.texts for text in spelt)
