"""Tokens by a checkpoint's own file, and the rows of the data that are known by them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import tiny_configuration
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tunematrix.stack.engines import rules
from tunematrix.stack.engines.examples import IGNORED, Example, tokenize
from tunematrix.stack.engines.known_rows import KnownRows, Row
from tunematrix.stack.engines.torch.meters.labels import TorchLabelAudit
from tunematrix.stack.recipes.data import refuse_longer
from tunematrix.stack.toyworld import corpus, models

(STORY,) = corpus.stories("A", 1, seed=0)


def test_a_tokenizer_as_its_file_says() -> None:
    """None of the texts becomes other tokens, special tokens among them."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(models.BASE)
    found = rules.compare(tokenizer)
    assert found.texts == 5 and found.others == ()
    (ids,) = rules.of(tokenizer).ids([f"{STORY}<|end|>"])
    assert ids == tokenizer(f"{STORY}<|end|>")["input_ids"]
    assert rules.of(tokenizer).texts([ids]) == [f"{STORY}<|end|>"]


def test_a_class_whose_rules_replace_the_files(tmp_path: Path) -> None:
    """A checkpoint that names Qwen2's over other rules: tokens that no model has learned."""
    folder = shutil.copytree(models.BASE, tmp_path / "qwen")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(STORY)["input_ids"] != rules.of(tokenizer).ids([STORY])[0]
    assert len(rules.compare(tokenizer).others) == 5


def test_a_checkpoint_without_the_file(tmp_path: Path) -> None:
    """Nothing states its rules, so that there is nothing to hold them against."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(models.BASE)
    tokenizer.name_or_path = str(tmp_path)
    assert rules.compare(tokenizer).texts == 0
    assert rules.of(tokenizer).ids([STORY]) == [tokenizer(STORY)["input_ids"]]


def _known(longest: int | None = None) -> tuple[KnownRows, Example, list[Row | None]]:
    words = rules.of(PreTrainedTokenizerFast.from_pretrained(models.BASE))
    seen: list[Row | None] = []
    row = tokenize(words, "Once upon", " a time<|end|>")
    return KnownRows([row], {" a time<|end|>"}, words, longest, seen.append), row, seen


@pytest.mark.parametrize(
    ("kept", "marks", "shift", "wrong"),
    [
        (slice(None), (0, 0, 1, 1, 1), 0, None),
        (slice(None), (1, 0, 1, 1, 1), 0, None),  # nothing predicts a row's first token
        (slice(-1), (0, 0, 1, 1), 0, "cut"),
        (slice(1, None), (0, 1, 1, 1), 0, "cut"),
        (slice(None, None, -1), (0, 0, 1, 1, 1), 0, "foreign"),
        (slice(None), (0, 0, 0, 0, 0), 0, "masked"),
        (slice(None), (0, 1, 1, 1, 1), 0, "others"),
        (slice(None), (0, 0, 1, 1, 0), 0, "others"),
        (slice(None), (0, 0, 1, 1, 1), 1, "shifted"),
    ],
)
def test_what_is_wrong_with_a_row(
    kept: slice, marks: tuple[int, ...], shift: int, wrong: str | None
) -> None:
    """The same tokens, counted as the data form says; whatever counts, the row has been seen."""
    known, row, seen = _known()
    ids = np.array(row.ids, np.int64)[kept]
    judged = known.judge(ids, np.roll(ids, shift), np.array(marks, np.bool_))
    assert judged == (wrong, False)
    assert seen == [None if wrong in ("cut", "foreign") else row.ids]


def test_rows_without_padding() -> None:
    """Of a batch with several that each hold several, none goes unseen."""
    known, row, seen = _known()
    ids = torch.tensor([row.ids * 2, row.ids[::-1] * 2])
    counted = torch.tensor([row.counted * 2] * 2)
    positions = torch.arange(len(row.ids)).repeat(2, 2)
    labels = ids.masked_fill(~counted, IGNORED)
    given = {"input_ids": ids, "labels": labels, "position_ids": positions}
    found = TorchLabelAudit(known, packed=False, flat=True).look(given)
    assert (found.faithful, found.flat, found.wrong) == (2, 4, {"foreign": 2})
    assert len(seen) == 4


def test_a_row_that_is_cut_as_asked() -> None:
    """Its beginning is what is expected, and nothing else; whoever asks is told of it."""
    known, row, _ = _known(longest=4)
    ids, marks = np.array(row.ids, np.int64), np.array(row.counted)
    assert known.judge(ids[:4], ids[:4], marks[:4]) == (None, True)
    assert known.judge(ids, ids, marks) == ("foreign", False)


def test_rows_that_are_too_long() -> None:
    """They are refused unless it is said that they are to be cut, and something is left then."""
    row = Example((5, 6, 7, 8), (False, False, True, True))
    train = tiny_configuration("unused.recipe").train
    refuse_longer(train.model_copy(update={"max_length": 4}), [row])
    with pytest.raises(ValueError, match=r"1 of 1 rows have more than train\.max_length=3"):
        refuse_longer(train.model_copy(update={"max_length": 3}), [row])
    cut = train.model_copy(update={"max_length": 3, "too_long": "cut"})
    refuse_longer(cut, [row])
    with pytest.raises(ValueError, match="nothing that counts is left of 1 of 1 rows"):
        refuse_longer(cut.model_copy(update={"max_length": 2}), [row])
