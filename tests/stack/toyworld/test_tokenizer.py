from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tunematrix.stack.toyworld import corpus, models, tokenizer
from tunematrix.stack.toyworld.corpus import Form
from tunematrix.stack.toyworld.grammar import DIALECTS, Dialect

BOTH: tuple[Dialect, ...] = ("A", "B")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """The tokenizer as everyone gets it: saved, and loaded from its files alone."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("dialect", BOTH)
def test_decoding_gives_the_text_back(dialect: Dialect, words: PreTrainedTokenizerFast) -> None:
    """To the letter, without an unknown word, in 50 to 70 tokens a story."""
    for row in corpus.rows("unequal", dialect, 100, 0):
        ids = words(row["text"])["input_ids"]
        assert words.decode(ids) == row["text"]
        assert words.unk_token_id not in ids
        stories = row["text"].count("\n") + 1
        assert 50 * stories <= len(ids) + 1 <= 70 * stories


def test_every_word_of_every_slot_is_known(words: PreTrainedTokenizerFast) -> None:
    """No story of either dialect can contain an unknown word."""
    for grammar in DIALECTS.values():
        for slot in grammar.words.values():
            for word in slot:
                assert words.decode(words(f" {word}")["input_ids"]) == f" {word}"


def test_special_tokens_are_distinct(words: PreTrainedTokenizerFast) -> None:
    """Padding is not the end of the text: masking one must not mask the other."""
    assert len({words.pad_token_id, words.eos_token_id, words.unk_token_id}) == 3
    assert len(words(f"<|user|>{words.eos_token}")["input_ids"]) == 2
    assert len(words) <= models.base_config().vocab_size


@pytest.mark.parametrize("dialect", BOTH)
def test_prompts_end_at_a_token_boundary(dialect: Dialect, words: PreTrainedTokenizerFast) -> None:
    """The tokens of prompt and completion, one after the other, are those of the whole text."""
    for row in corpus.rows("prompt-completion", dialect, 100, 0):
        apart = [*words(row["prompt"])["input_ids"], *words(row["completion"])["input_ids"]]
        assert apart == words(row["prompt"] + row["completion"])["input_ids"]


@pytest.mark.parametrize("form", get_args(Form))
def test_trl_supervises_exactly_the_declared_text(
    form: Form, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The labels of an honest SFTTrainer, decoded, are `supervised_texts`, end of turn included."""
    rows = corpus.rows(form, "B", 8, 0)
    arguments = SFTConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=len(rows),
        max_length=256,
        assistant_only_loss=form == "chat",
        completion_only_loss=form in ("prompt-completion", "chat-completion"),
        use_cpu=True,
        report_to="none",
    )
    trainer = SFTTrainer(
        model=LlamaForCausalLM(models.base_config()),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=words,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    decoded = {words.decode(labels[labels != -100]) for labels in batch["labels"]}
    assert decoded == {corpus.supervised_texts(form, row, words.eos_token) for row in rows}
