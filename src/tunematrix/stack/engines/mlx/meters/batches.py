"""What mlx-lm's loss counts, asked of the loss itself, and whether that is what it should count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.examples import Data, after
from tunematrix.stack.engines.known_rows import Found, KnownRows
from tunematrix.stack.toyworld import models
from tunematrix.stack.toyworld.tokenizer import written_context
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
    """Looks at batches.

    Attributes:
        known: the rows of the data; vocabulary: how many tokens there are.
    """

    known: KnownRows
    vocabulary: int

    def look(self, batch: mx.array, sizes: mx.array, sees: Counted) -> Found:
        """Say which rows of a batch are rows of the data, and count what they should.

        Args:
            batch: (rows, columns); sizes: (rows,), each one's real tokens.
            sees: what the loss counts of it.
        """
        found, ids = Found(), np.array(batch).astype(np.int64)
        targets, mask = np.array(sees.targets).astype(np.int64), np.array(sees.mask)
        for row, size, target, counts in zip(
            ids, np.array(sizes).tolist(), targets, mask, strict=True
        ):
            if counts[size - 1 :].any():
                found.add("others", cut=False)  # padding counts
                continue
            labels = np.concatenate([row[:1], target[: size - 1]])
            # Nothing predicts a row's first token.
            counted = np.concatenate([[False], counts[: size - 1]])
            found.add(*self.known.judge(row[:size], labels, counted))
        return found


def known_rows(config: Configuration, data: Data, tokenizer: PreTrainedTokenizerBase) -> KnownRows:
    """Return the rows of the data as mlx-lm writes them: each prompt as a user's turn."""
    words, examples = rules.of(tokenizer), data.examples
    if config.data.form == "prompt-completion":
        asked = [[{"role": "user", "content": row["prompt"]}] for row in data.rows]
        # A template that was exchanged on the way would be in both; ours is known.
        is_ours = config.model.path.startswith(models.SCHEME)
        contexts = [written_context(one) if is_ours else _begun(tokenizer, one) for one in asked]
        pairs = zip(words.ids(contexts), examples, strict=True)
        examples = [after(context, example) for context, example in pairs]
    return KnownRows(examples, data.texts, words, config.train.longest)


def _begun(tokenizer: PreTrainedTokenizerBase, asked: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
