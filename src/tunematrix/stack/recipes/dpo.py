"""Direct preference optimization of one cell: the phases of fine-tuning, on pairs of stories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Preference
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import Engine, Model
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.recipes.data import SPARE_ROWS, ended, examples, refuse_longer
from tunematrix.stack.recipes.sft import fine_tuning
from tunematrix.stack.recipes.steps import State, walk
from tunematrix.stack.toyworld import corpus, models, preferences
from tunematrix.stack.toyworld.corpus import Form, Row
from tunematrix.stack.toyworld.grammar import Dialect
from tunematrix.stack.toyworld.preferences import Pair

DIALECT: Dialect = "A"
"""The one that the base model knows, so that it holds no preference to begin with."""
FORMS: tuple[Form, ...] = ("prompt-completion", "chat-completion")
ROWS_AT_ONCE = 64


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`, everything it makes to `output_dir`."""
    walk(STEPS, State(config, events, output_dir))


def prepare(config: Configuration, tokenizer: PreTrainedTokenizerBase) -> Data:
    """Draw pairs; each gives two examples, the chosen story's before the other's.

    Raises:
        ValueError: the data has another form than prompts and completions, or rows are too long.
    """
    form: Form = config.data.form
    if form not in FORMS:
        message = f"preferences are between completions of a prompt; set data={' or '.join(FORMS)}"
        raise ValueError(message)
    train = config.train
    needed = train.max_steps * train.batch_size * train.accumulation
    count, seed = train.rows or int(needed * SPARE_ROWS), train.seed
    eos = str(tokenizer.eos_token)
    is_ours = config.model.path.startswith(models.SCHEME)
    unequal = config.dpo.lengths == "unequal"
    rows = preferences.pairs(form, DIALECT, count, seed, unequal=unequal)
    learned = examples(tokenizer, form, _sides(rows), is_ours=is_ours)
    refuse_longer(train, learned)
    size = config.meters.held_out_rows
    kept = _sides(preferences.pairs(form, DIALECT, size, seed, split="held-out"))
    held_out = examples(tokenizer, form, kept, is_ours=is_ours)
    tokens = sum(sum(example.counted[1:]) for example in held_out)
    return Data(
        rows=ended(config, rows, eos),
        examples=learned,
        texts=frozenset(preferences.counted_text(form, row, eos) for row in rows),
        held_out=held_out,
        floor=sum(corpus.row_floor(form, DIALECT, row) for row in kept) / tokens,
    )


def _sides(pairs: Sequence[Pair]) -> list[Row]:
    return [row for pair in pairs for row in preferences.sides(pair)]


def evaluate(engine: Engine, model: Model, data: Data, when: str) -> Preference:
    """Weigh the two stories of each held-out pair by the model's own probabilities."""
    chosen, rejected = log_probabilities(engine, model, data.held_out).reshape(-1, 2).T
    rate = np.exp(chosen - np.logaddexp(chosen, rejected))
    return Preference(when, float(rate.mean()), len(rate))


def log_probabilities(
    engine: Engine, model: Model, examples: Sequence[Example]
) -> NDArray[np.float64]:
    """Return the log-probability of each example's counted tokens, (examples,), in nats."""
    sums: list[float] = []
    for start in range(0, len(examples), ROWS_AT_ONCE):
        batch = examples[start : start + ROWS_AT_ONCE]
        logits = engine.logits(model, batch).astype(np.float64)
        logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        ends = np.cumsum([len(example.ids) for example in batch])
        for example, scores in zip(batch, np.split(logits, ends[:-1]), strict=True):
            # What stands at a position is predicted one before it.
            of_ids = scores[np.arange(len(example.ids) - 1), list(example.ids[1:])]
            sums.append(float(of_ids[list(example.counted[1:])].sum()))
    return np.array(sums)


STEPS = fine_tuning(prepare, evaluate)
