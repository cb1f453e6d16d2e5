"""Prompts become tokens and answers texts, whatever a tokenizer adds or drops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.stack.generate_step.world import PROMPTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.torch.generating import Decoder
from tunematrix.stack.steps.asking import Alone
from tunematrix.stack.steps.comparing import gap, regret, spread
from tunematrix.stack.steps.prompts import Prompt, answer_of, tokenized
from tunematrix.stack.toyworld import models as toys
from tunematrix.stack.toyworld import tokenizer as toy_tokenizer
from tunematrix.stack.toyworld.grammar import DIALECTS
from tunematrix.stack.yardsticks import perplexity


def _marking(template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of three words that drops a text's first space, as SentencePiece does."""
    words = {"<s>": 0, "</s>": 1, "▁a": 2, "▁b": 3, "▁c": 4, "<unk>": 5}
    made = Tokenizer(models.WordLevel(words, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    marks = [("<s>", 0), ("</s>", 1)]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def test_a_mark_at_the_beginning_stays_and_one_at_the_end_goes() -> None:
    """A model that is given the end of a text has nothing to go on with."""
    assert tokenized(_marking("<s> $A"), "a b") == (0, 2, 3)
    assert tokenized(_marking("<s> $A </s>"), "a b") == (0, 2, 3)
    assert tokenized(_marking("$A"), "a b") == (2, 3)
    assert tokenized(_marking("<s> $A"), "a b</s>") == (0, 2, 3, 1), "its user's own"


def test_an_answer_keeps_the_space_that_it_begins_with() -> None:
    """Decoded by itself it would lose it."""
    tokenizer = _marking("<s> $A")
    assert tokenizer.decode([4, 2]) == "c a"
    assert answer_of(tokenizer, Prompt("a b", (0, 2, 3)), (4, 2, 1)) == " c a"
    assert answer_of(tokenizer, Prompt("a b", (0, 2, 3)), (1,)) == ""


@pytest.mark.parametrize("cache", [True, False])
def test_every_end_of_a_model_ends_its_texts(cache: bool) -> None:
    """Of several, whichever comes first; by the library and by whole passes."""
    model = AutoModelForCausalLM.from_pretrained(toys.BASE)
    tokenizer = toy_tokenizer.build()
    prompts = [tokenized(tokenizer, text) for text in PROMPTS]
    asked = Sampling(20, 0.0, 0, cache)
    plain = Decoder(tokenizer, "cpu").generate(model, prompts, asked)
    stop = tokenizer.convert_tokens_to_ids(" named")
    found = Decoder(tokenizer, "cpu", more_ends=(stop,)).generate(model, prompts, asked)
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in plain]
    assert found == cut != plain


def test_a_tokenizer_without_an_end() -> None:
    """Texts are as long as they may be, and padding is masked, whichever token it is."""
    tokenizer = toy_tokenizer.build()
    tokenizer.eos_token = tokenizer.pad_token = None
    torch.manual_seed(0)
    small = GPT2Config(
        vocab_size=256, n_embd=32, n_layer=1, n_head=2, n_positions=64,
        bos_token_id=None, eos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    model, decoder = GPT2LMHeadModel(small).eval(), Decoder(tokenizer, "cpu")
    prompts, asked = [(5, 6, 7), (8,)], Sampling(6, 0.0, 0, cache=True)
    together = decoder.generate(model, prompts, asked)
    assert [len(row) for row in together] == [6, 6]
    assert [decoder.generate(model, [ids], asked)[0] for ids in prompts] == together


def _alone(tokens: list[int], *rows: list[float]) -> Alone:
    whole = np.array(rows, np.float32)
    return Alone(tokens, whole, whole)


def test_where_answers_part_and_by_how_much() -> None:
    """A tie is near 0, and an answer that goes on beyond the other's end is no tie."""
    alone = _alone([2, 1], [0.0, 0.0, 10.0], [0.0, 8.0, 7.0])
    assert gap(alone, [2, 1]) == 0.0
    assert gap(alone, [2, 2]) == 1.0
    assert gap(alone, [0, 1]) == 1.0
    assert gap(alone, [2, 1, 0]) == math.inf
    assert gap(_alone([0], [5.0, 5.0, 0.0]), [1]) == 0.0
    assert regret(alone) == 0.0
    assert regret(_alone([1], [0.0, 5.0, 10.0, 0.0, 0.0])) == 0.5
    assert math.isnan(regret(_alone([1], [math.nan, 5.0, 10.0])))


def test_prompts_of_all_lengths_are_compared() -> None:
    """The shortest and the longest always."""
    prompts = [Prompt("", (0,) * (1 + n * 7 % 100)) for n in range(100)]
    lengths = [len(prompts[place].ids) for place in spread(prompts)]
    assert len(set(lengths)) == 16
    assert (lengths[0], lengths[-1]) == (1, 100)
    assert spread(prompts[:3]) == [0, 1, 2]
    assert len(spread(prompts[:17])) == 16


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("Once", True),
        ("Once upon a time a brave fox named Milo lived in Arden", True),
        ("Once upon a time a brave fox named Milo lived in Arden.", True),
        ("Once upon a time a brave fox named Milo lived in Arden. One day Milo found", True),
        ("Once upon a time a brave fox named Milo lived in Arden. One day Tessa found", False),
        ("Once upon a time a brave fox. named", False),
        ("Once upon a time ", False),
        ("Far away", False),
        ("", False),
    ],
)
def test_beginnings_of_stories(text: str, begins: bool) -> None:
    """Whole words that a story of the dialect may begin with, however far it goes."""
    assert DIALECTS["A"].begins(text) is begins


def test_a_scorer_is_loaded_once(tmp_path: Path) -> None:
    """What it says is what a program of its own says, and a long text is read in part."""
    scorer = perplexity.load(str(toys.BASE))
    assert scorer.perplexity(PROMPTS[1]) == perplexity.perplexity(str(toys.BASE), PROMPTS[1])
    with pytest.raises(ValueError, match="fewer than two tokens"):
        scorer.perplexity("Once")
    gpt2 = toys.resolve("toyworld://gpt2", tmp_path)
    limited = perplexity.load(str(gpt2))
    assert limited.longest == 512
    assert limited.perplexity("Once upon " * 600) == limited.perplexity("Once upon " * 256)
