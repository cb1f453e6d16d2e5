"""Prompts → answers as texts and tokens, in batches, whatever library computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.common import Floats, Sampling
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.judging import LoadJudge
from tunematrix.stack.steps.prompts import Prompt, PromptAnswer, answer_of
from tunematrix.stack.steps.sources import ModelSource

SEEDS_APART = 1_000_000
"""Each batch draws with a seed of its own, or equal prompts would get equal answers."""
_SEEDS = 2**63
_UNFOLLOWED = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "num_beams",
    "repetition_penalty", "no_repeat_ngram_size", "length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip


@dataclass(frozen=True)
class Alone:
    """A prompt's likeliest answer when nothing else is asked.

    Attributes:
        tokens: of the answer.
        cached: logits that the library had for each, (tokens, vocabulary), with its cache.
        whole: the same by one whole pass over prompt and answer: each position sees what is
            before it, and nothing else. Both may lack the same constant at a position.
    """

    tokens: Sequence[int]
    cached: Floats
    whole: Floats


class Asking(ABC):
    """A model of one library that answers prompts, with its adapter if it has one."""

    @property
    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    @abstractmethod
    def ends(self) -> Set[int]:
        """The tokens that it ends texts with."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """Prompts that are answered together at most."""

    @abstractmethod
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> Sequence[Sequence[int]]:
        """Continue prompts side by side; return each one's new tokens, the end included."""

    @abstractmethod
    def alone(self, prompt: Prompt, most: int) -> Alone:
        """Ask one prompt with a cache, and look at the answer by a whole pass."""

    @abstractmethod
    def logits(self, prompt: Prompt, last: int) -> Floats:
        """Return float32 logits of a whole pass at the last positions, (positions, vocabulary)."""

    @abstractmethod
    def with_adapter(self, adapter: Path) -> Asking:
        """Put an adapter over the model, which may change in place.

        Raises:
            WrongSetting: it can't be loaded.
        """

    @abstractmethod
    def without_adapter(self) -> AbstractContextManager[None]:
        """Switch its adapter off meanwhile."""

    def answers(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[list[PromptAnswer]]:
        """Yield the answers of one batch after the other."""
        for start in range(0, len(prompts), self.batch):
            asked = prompts[start : start + self.batch]
            seed = (sampling.seed * SEEDS_APART + start) % _SEEDS
            rows = self.generate([prompt.ids for prompt in asked], replace(sampling, seed=seed))
            yield [self._answer(prompt, row) for prompt, row in zip(asked, rows, strict=True)]

    def likeliest(self, prompts: Sequence[Prompt], most: int) -> list[list[int]]:
        """Return the tokens of each prompt's likeliest answer, asked in batches."""
        greedy = Sampling(most, temperature=0.0, seed=0, cache=True)
        return [[*answer.tokens] for batch in self.answers(prompts, greedy) for answer in batch]

    def _answer(self, prompt: Prompt, row: Sequence[int]) -> PromptAnswer:
        text = answer_of(self.tokenizer, prompt, row)
        return PromptAnswer(prompt, tuple(row), text, bool(row) and row[-1] in self.ends)


@dataclass(frozen=True)
class Library:
    """What a library does for the step.

    Attributes:
        open: loads the model below an adapter, with its tokenizer, to answer so many prompts at a
            time; raises WrongSetting where its folder isn't what it says.
        read: format of the adapters that it reads.
        judge: loads a reference model.
    """

    open: Callable[[ModelSource, PreTrainedTokenizerBase, int, StepJob], Asking]
    read: Format
    judge: LoadJudge


def warn_of_presets(own: GenerationConfig | None, job: StepJob) -> None:
    """Say which settings of a model's generation_config aren't followed, if there are any."""
    given = {} if own is None else own.to_diff_dict()
    if unfollowed := [f"{name}={given[name]}" for name in _UNFOLLOWED if name in given]:
        text = "the model's generation_config.json isn't followed in"
        job.warn(f"{text} {', '.join(unfollowed)}; the section generation of the config decides")
