"""Generation: prompts that the base model knows → texts, greedy and sampled, scored exactly."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import Generation
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import Engine, Model, Sampling
from tunematrix.stack.engines.examples import tokenize
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.toyworld import corpus, grammar
from tunematrix.stack.toyworld.grammar import Dialect

DIALECT: Dialect = "A"
WORDS = range(5, 9)
"""Lengths of the prompts: the first five words are the same in all stories, the others drawn."""
SEEDS_APART = 1000
"""Each prompt draws with a seed of its own, or all of them would draw the same words."""


@dataclass(frozen=True)
class Way:
    """How one text for each prompt is generated; `seed` None takes the likeliest token.

    Without a cache, by the definition.
    """

    seed: int | None
    cache: bool


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`."""
    settings = config["generate"]
    with events.phase("prepare"):
        engine = open_engine(config, events)
        prompts = openings(int(settings["prompts"]), int(config["train"]["seed"]))
        examples = [tokenize(engine.tokenizer, "", prompt) for prompt in prompts]
    with events.phase("load"):
        base = engine.describe(engine.original())
        model = engine.load(base)
        events.write(engine.storage(model, base))
        events.write(engine.weights(model, base))
        events.write(engine.located(model, examples))
    with events.phase("generate"):
        for way in ways(int(config["train"]["seed"])):
            texts = list(generate(engine, model, [e.ids for e in examples], way, settings))
            events.write(score(engine.tokenizer, prompts, texts, way))


def openings(count: int, seed: int) -> list[str]:
    """Return the beginnings of stories, of all lengths in turn."""
    stories = corpus.stories(DIALECT, count, seed, "held-out")
    return [
        " ".join(story.split(" ")[: WORDS[number % len(WORDS)]])
        for number, story in enumerate(stories)
    ]


def ways(seed: int) -> tuple[Way, ...]:
    """Return all ways to generate: enough to tell a cache, a seed and a temperature by."""
    greedy = (Way(None, cache=True), Way(None, cache=False))
    drawn = (Way(seed, cache=True), Way(seed, cache=False), Way(seed, cache=True))
    return (*greedy, *drawn, Way(seed + 1, cache=True))


def generate(
    engine: Engine,
    model: Model,
    prompts: Sequence[Sequence[int]],
    way: Way,
    settings: Mapping[str, Any],
) -> Iterator[list[int]]:
    """Yield the tokens that continue each prompt."""
    drawn = way.seed is not None
    for number, prompt in enumerate(prompts):
        sampling = Sampling(
            most=int(settings["most"]),
            temperature=float(settings["temperature"]) if drawn else 0.0,
            seed=(way.seed or 0) * SEEDS_APART + number,
            cache=way.cache,
        )
        yield engine.generate(model, prompt, sampling)


def score(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    texts: Sequence[Sequence[int]],
    way: Way,
) -> Generation:
    """Hold the texts against the grammar."""
    scored = [(p, exact_nats(tokenizer, p, text)) for p, text in zip(prompts, texts, strict=True)]
    stories = [(prompt, nats) for prompt, nats in scored if math.isfinite(nats)]
    return Generation(
        seed=way.seed,
        cache=way.cache,
        texts=tuple(digest(tokens) for tokens in texts),
        stories=len(stories),
        nats=_mean([nats for _, nats in stories]),
        entropy=_mean([grammar.entropy_after(DIALECT, prompt) for prompt, _ in stories]),
    )


def exact_nats(tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: Sequence[int]) -> float:
    """Return what the grammar gives for the text after its prompt; infinity for no whole story."""
    if not tokens or tokens[-1] != tokenizer.eos_token_id:
        return math.inf
    story = prompt + str(tokenizer.decode(tokens[:-1]))
    given = grammar.opening_log_probability(DIALECT, prompt)
    return given - grammar.log_probability(DIALECT, story)


def _mean(figures: Sequence[float]) -> float:
    return math.fsum(figures) / len(figures) if figures else math.nan


def digest(tokens: Sequence[int]) -> str:
    """Return a short name for a sequence of tokens."""
    return hashlib.sha256(json.dumps([*map(int, tokens)]).encode()).hexdigest()[:12]
