"""The toy world's data for one cell: a configuration → rows, examples and their floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.configuration.settings import TrainSettings
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.examples import Data, Example, tokenize_all
from tunematrix.stack.toyworld import corpus, models
from tunematrix.stack.toyworld.corpus import Form
from tunematrix.stack.toyworld.grammar import Dialect
from tunematrix.stack.toyworld.tokenizer import written_context

DIALECT: Dialect = "B"
SPARE_ROWS = 1.25
"""So many times the rows that the run needs, so that packing can't run dry."""
SHORTEST = 45
"""Tokens of the shortest row, whatever its form: a packed row holds no more of them than fit."""


def prepare(config: Configuration, tokenizer: PreTrainedTokenizerBase) -> Data:
    """Draw rows for the cell's data form from the target dialect.

    Raises:
        ValueError: the rows asked for don't fill whole steps, or are too long.
    """
    form: Form = config.data.form
    train = config.train
    rows = corpus.rows(form, DIALECT, row_count(config), seed=train.seed)
    eos = str(tokenizer.eos_token)
    size = config.meters.held_out_rows
    held_out = corpus.rows(form, DIALECT, size, seed=train.seed, split="held-out")
    is_ours = config.model.path.startswith(models.SCHEME)
    unseen = examples(tokenizer, form, held_out, is_ours=is_ours)
    known = examples(tokenizer, form, rows, is_ours=is_ours)
    refuse_longer(train, known, unseen if train.eval_steps else ())
    tokens = sum(sum(e.counted[1:]) for e in unseen)
    nats = sum(corpus.row_floor(form, DIALECT, row) for row in held_out)
    return Data(
        rows=ended(config, rows, eos),
        examples=known,
        texts=frozenset(corpus.supervised_texts(form, row, eos) for row in rows),
        held_out=unseen,
        floor=nats / tokens,
        held_out_rows=ended(config, held_out, eos),
        held_out_texts=frozenset(corpus.supervised_texts(form, row, eos) for row in held_out),
    )


def refuse_longer(train: TrainSettings, *groups: Sequence[Example]) -> None:
    """See that no row is longer than a trainer takes, or that cutting it is what is asked for.

    Raises:
        ValueError: some are, or nothing that counts would be left of them.
    """
    rows = [row for group in groups for row in group]
    longer = [len(row.ids) for row in rows if len(row.ids) > train.max_length]
    if train.longest is None and longer:
        message = (
            f"{len(longer)} of {len(rows)} rows have more than train.max_length="
            f"{train.max_length} tokens, the longest {max(longer)}: cut, they would lose their end "
            f"tokens; set train.max_length={max(longer)}, or train.too_long=cut if that is meant"
        )
        raise ValueError(message)
    empty = sum(not any(row.counted[1 : train.longest]) for row in rows)
    if empty:
        message = (
            f"nothing that counts is left of {empty} of {len(rows)} rows, cut to train.max_length="
            f"{train.max_length} tokens: their prompts alone are as long, and trainers drop such "
            f"rows or count nothing of them; raise train.max_length"
        )
        raise ValueError(message)


def ended(
    config: Configuration, rows: Sequence[Mapping[str, Any]], eos: str
) -> Sequence[Mapping[str, Any]]:
    """Return rows as a trainer gets them: with the end token in their texts, where that is asked.

    Raises:
        ValueError: it is asked of conversations, which a template ends.
    """
    if config.train.end_token == "trainer":
        return rows
    if config.data.form in corpus.CONVERSATIONS:
        message = f"train.end_token=row can't be had with data {config.data.name}"
        raise ValueError(message)
    return [{k: v if k == "prompt" else f"{v}{eos}" for k, v in r.items()} for r in rows]


def row_count(config: Configuration) -> int:
    """Return how many rows to train on: those asked for, or enough for every step.

    Raises:
        ValueError: the rows asked for don't fill whole steps.
    """
    train, packing = config.train, config.data.packing
    step = train.batch_size * train.accumulation
    step *= config.launcher.processes
    asked = train.rows
    if not asked:
        # A pass that ends in the middle of a step makes that step shorter.
        held = -(-train.max_length // SHORTEST) if packing else 1
        return int(train.max_steps * step * SPARE_ROWS) * held
    # How many rows are left after packing, only the packing knows.
    if asked < 0 or (asked % step and not packing):
        message = (
            f"train.rows={asked} doesn't fill whole steps of {step} rows (batch_size x "
            "accumulation x processes), and trainers treat what is left over each in their own way"
        )
        raise ValueError(message)
    return asked


def examples(
    tokenizer: PreTrainedTokenizerBase,
    form: Form,
    rows: Sequence[Mapping[str, Any]],
    *,
    is_ours: bool = True,
) -> list[Example]:
    """Tokenize rows without TRL, so that the two can be held against each other.

    `is_ours` says that the tokenizer is the toy world's.
    """
    eos = str(tokenizer.eos_token)
    contexts = [context(tokenizer, form, row, is_ours=is_ours) for row in rows]
    texts = [corpus.supervised_texts(form, row, eos) for row in rows]
    return tokenize_all(rules.of(tokenizer), [*zip(contexts, texts, strict=True)])


def context(
    tokenizer: PreTrainedTokenizerBase, form: Form, row: Mapping[str, Any], *, is_ours: bool
) -> str:
    """Return what stands before the text of a row that counts."""
    if form not in corpus.CONVERSATIONS:
        return str(row.get("prompt", ""))
    asked = corpus.messages(row)[:-1]
    # A template that was exchanged on the way would be in both; ours is known.
    return str(
        written_context(asked)
        if is_ours
        else tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    )
