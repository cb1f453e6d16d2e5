"""Answers → how good they are: by the grammar of the toy world, or by a reference model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.configuration.answers import ReferenceScorer
from tunematrix.configuration.download import on_the_hub
from tunematrix.errors import BadInput, WrongSetting
from tunematrix.evidence.events import StepGrammar, StepScored
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.prompts import PromptAnswer
from tunematrix.stack.toyworld import checkpoint, models
from tunematrix.stack.toyworld import tokenizer as toy_tokenizer
from tunematrix.stack.toyworld.grammar import DIALECTS, Grammar
from tunematrix.stack.yardsticks.named import folder_of

ROUTE = ("scorer", "path")
TOY_SCORER = "toyworld://base"
"""Judges the toy world's own models, where no other is named."""


class Judge(Protocol):
    """A reference model that has been loaded, by whatever library."""

    def perplexity(self, text: str) -> float:
        """Return exp of the mean cross-entropy of a text's tokens, each given all before it.

        Raises:
            ValueError: the text has fewer than two tokens.
        """


LoadJudge: TypeAlias = Callable[[Path, StepJob], Judge]
"""Loads the reference model in a folder onto the step's device."""


def scorer_folder(path: str, config: Configuration) -> Path:
    """Find the reference model that a config names: a folder, or the name of a model on the Hub.

    Raises:
        WrongSetting: it isn't there, or lacks what a model must have.
        MachineProblem: it would have to be fetched, and the Hub can't be used.
    """
    try:
        if on_the_hub(path, Path()):
            return folder_of(path)
        return models.resolve(path, Path(config.cache_dir or "."))
    except checkpoint.UnusableCheckpoint as error:
        raise WrongSetting(ROUTE, error.said) from None
    except BadInput as error:
        raise WrongSetting(ROUTE, str(error)) from None


def score(
    scorer: ReferenceScorer,
    model: Judge,
    answers: Sequence[tuple[str, str]],
    job: StepJob,
) -> list[float]:
    """Write down, and return, the perplexity of each prompt with its answer; nan for no figure.

    Args:
        model: the reference model. answers: prompts, each with its answer.
    """
    found = []
    for done, (prompt, answer) in enumerate(answers, start=1):
        found.append(perplexity_of(model, prompt + answer))
        job.progress("answers scored", done, len(answers))
    blank = sum(not answer.strip() for _, answer in answers)
    event = StepScored(job.name, scorer.path, tuple(found), blank, scorer.perplexity_max)
    job.events.write(event)
    return found


def loaded(path: str, load: Callable[[], Judge]) -> Judge:
    """Load a reference model.

    Args:
        path: as it is named, for messages.

    Raises:
        WrongSetting: it can't be loaded.
    """
    try:
        return load()
    except sources.UNREADABLE as error:
        said = " ".join(str(error).split())[:300]
        text = f"{path} can't be loaded ({type(error).__name__}: {said})"
        raise WrongSetting(ROUTE, f"{text}; fetch or save that model again") from None


def perplexity_of(model: Judge, text: str) -> float:
    """Return a text's perplexity; nan where it has fewer than two tokens."""
    try:
        return model.perplexity(text)
    except ValueError:
        return math.nan


def is_toy(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer is the toy world's, whose grammar and base model judge it."""
    return tokenizer.get_vocab() == toy_tokenizer.build().get_vocab()


def grammatical(
    tokenizer: PreTrainedTokenizerBase, answers: Sequence[PromptAnswer], job: StepJob
) -> StepGrammar | None:
    """Write down, and return, how many answers go on as stories; None outside the toy world."""
    if not is_toy(tokenizer):
        return None
    begun = [
        (answer, grammar)
        for answer in answers
        for grammar in DIALECTS.values()
        if grammar.begins(answer.prompt.text)
    ]
    if not begun:
        return None
    event = StepGrammar(job.name, len(begun), sum(follows(*pair) for pair in begun))
    job.events.write(event)
    return event


def follows(answer: PromptAnswer, grammar: Grammar) -> bool:
    """Return whether prompt and answer are a story, or the beginning of one that was cut off."""
    text = answer.prompt.text + answer.text
    return grammar.choices(text) is not None if answer.ended else grammar.begins(text)
