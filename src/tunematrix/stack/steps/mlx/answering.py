"""A model of MLX that answers prompts through mlx-lm, and is asked the same in other ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_unflatten
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tuner.utils import load_adapters
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from tunematrix.errors import WrongSetting
from tunematrix.stack.engines.common import Floats, Sampling
from tunematrix.stack.engines.examples import Example
from tunematrix.stack.engines.mlx import scoring
from tunematrix.stack.engines.mlx.loading import load
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.asking import Alone, Asking, Library, warn_of_presets
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.mlx.opening import READS, reading
from tunematrix.stack.steps.prompts import Prompt


@dataclass(frozen=True)
class MlxAsking(Asking):
    """A model of MLX that answers prompts; an adapter is put over it in place.

    Attributes:
        words: its tokenizer. stops: tokens that end its texts.
        most: prompts that are answered together.
    """

    model: nn.Module
    words: PreTrainedTokenizerBase
    stops: frozenset[int]
    most: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the model, or of its adapter."""
        return self.words

    @property
    def ends(self) -> Set[int]:
        """The tokenizer's, and those that the model names."""
        return self.stops

    @property
    def batch(self) -> int:
        """As its user says."""
        return self.most

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """Continue prompts side by side, by the batches that mlx-lm's server has, too."""
        mx.random.seed(sampling.seed)
        batches = BatchGenerator(
            self.model,
            stop_tokens=[[token] for token in sorted(self.stops)],
            sampler=make_sampler(temp=sampling.temperature),
            completion_batch_size=len(prompts),
            prefill_batch_size=len(prompts),
        )
        places = batches.insert([[*ids] for ids in prompts], [sampling.most] * len(prompts))
        rows: dict[int, list[int]] = {place: [] for place in places}
        while given := batches.next_generated():
            for one in given:
                rows[one.uid].append(int(one.token))
        batches.close()
        return [rows[place] for place in places]

    def alone(self, prompt: Prompt, most: int) -> Alone:
        """Ask one prompt through mlx-lm's own stepping."""
        tokens: list[int] = []
        cached = []
        for token, log_odds in generate_step(mx.array(prompt.ids), self.model, max_tokens=most):
            tokens.append(int(token))
            cached.append(np.array(log_odds.astype(mx.float32)))
            if token in self.stops:
                break
        whole = self._logits((*prompt.ids, *tokens[:-1]), len(tokens))
        # mlx-lm tells logarithms of probabilities.
        odds = whole - mx.logsumexp(whole, axis=-1, keepdims=True)
        return Alone(tokens, np.stack(cached), np.array(odds))

    def logits(self, prompt: Prompt, last: int) -> Floats:
        """Return those of one prompt."""
        return np.array(self._logits(prompt.ids, last))

    def with_adapter(self, adapter: Path) -> MlxAsking:
        """Let mlx-lm put an adapter over the model."""
        with reading(adapter):
            load_adapters(self.model, str(adapter))
        if not _adapted(self.model):
            text = f"{adapter} holds whole weights, and no adapter; merge it: mlx_lm.fuse"
            raise WrongSetting(sources.ROUTE, text)
        self.model.eval()
        return self

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Put the model's own layers in their places meanwhile."""
        adapted = _adapted(self.model)
        plain = [(name, layer.linear) for name, layer in adapted]
        self.model.update_modules(tree_unflatten(plain))
        try:
            yield
        finally:
            self.model.update_modules(tree_unflatten(adapted))

    def _logits(self, ids: Sequence[int], last: int) -> mx.array:
        with scoring.evaluating(self.model):
            return self.model(mx.array([[*ids]]))[0, -last:].astype(mx.float32)


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the layers that an adapter has replaced, by their names."""
    return [(name, one) for name, one in model.named_modules() if hasattr(one, "lora_a")]


def open_asking(
    source: sources.ModelSource, tokenizer: PreTrainedTokenizerBase, batch: int, job: StepJob
) -> MlxAsking:
    """Load the model below an adapter, in float32."""
    with reading(source.path):
        model, config = load(source.base, mx.float32)
    model.eval()
    warn_of_presets(_presets(source.base), job)
    # mlx-lm puts those of generation_config.json there.
    ends = config.get("eos_token_id")
    more = {ends} if isinstance(ends, int) else {*(ends or ())}
    own = tokenizer.eos_token_id
    return MlxAsking(model, tokenizer, frozenset(more if own is None else {own, *more}), batch)


def _presets(folder: Path) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        return None


@dataclass(frozen=True)
class MlxJudge:
    """A reference model of MLX.

    Attributes:
        longest: tokens that it has positions for; None where it has no limit.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    longest: int | None

    def perplexity(self, text: str) -> float:
        """Return exp of the mean cross-entropy of a text's tokens, each given all before it.

        Raises:
            ValueError: the text has fewer than two tokens.
        """
        ids = tuple(self.tokenizer(text)["input_ids"][: self.longest])
        if len(ids) < 2:
            raise ValueError(f"{text!r} has fewer than two tokens, so nothing can be predicted")
        nats = scoring.loss(self.model, [Example(ids, (True,) * len(ids))])[0]
        try:
            return math.exp(nats)
        except OverflowError:
            return math.inf


def judge(folder: Path, job: StepJob) -> MlxJudge:
    """Load a reference model and its tokenizer; no code in its folder is run."""
    given = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **given)
    settings = AutoConfig.from_pretrained(folder, **given)
    model, _ = load(folder, mx.float32)
    model.eval()
    return MlxJudge(model, tokenizer, getattr(settings, "max_position_embeddings", None))


LIBRARY = Library(open_asking, READS, judge)
"""MLX, with mlx-lm."""
