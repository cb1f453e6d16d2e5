"""Generation: prompts that the base model knows → texts, greedy and sampled, scored exactly."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.configuration.settings import GenerateSettings
from tunematrix.evidence.events import DrawScores, Generation
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.common import Engine, Floats, Model, Sampling, ShowsScores
from tunematrix.stack.engines.examples import Example, tokenize
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.recipes.steps import State, Step, walk
from tunematrix.stack.toyworld import corpus, grammar
from tunematrix.stack.toyworld.grammar import Dialect

DIALECT: Dialect = "A"
WORDS = range(5, 9)
"""Lengths of the prompts: the first five words are the same in all stories, the others drawn."""
SEEDS_APART = 1000
"""Prompts that are taken one by one draw with seeds of their own, or all would draw the same."""

OTHER_TEMPERATURE = 0.7
"""At which a few texts are drawn as well: at 1, nothing shows that the scores are divided."""
SCORED = 4
"""Texts that are: of other lengths, so that the shorter ones are padded."""


@dataclass(frozen=True)
class Way:
    """How one text for each prompt is generated; `seed` None takes the likeliest token.

    Without a cache, by the definition.
    """

    seed: int | None
    cache: bool


@dataclass
class Generating(State):
    """With `prompts`, the openings of stories, and `examples`, the same as tokens."""

    prompts: Sequence[str] = field(init=False)
    examples: Sequence[Example] = field(init=False)


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`."""
    walk(STEPS, Generating(config, events, output_dir))


def open_cell(state: Generating) -> None:
    """Open the engine, and draw the prompts."""
    state.engine = open_engine(state.config, state.events)
    state.prompts = openings(state.config.generate.prompts, state.config.train.seed)
    words = rules.of(state.engine.tokenizer)
    state.examples = [tokenize(words, "", prompt) for prompt in state.prompts]


def load(state: Generating) -> None:
    """Load the base as the quantizer stores it, and say how and where it is."""
    engine, events = state.engine, state.events
    state.base = engine.describe(engine.original())
    state.model = engine.load(state.base)
    events.write(engine.storage(state.model, state.base))
    events.write(engine.weights(state.model, state.base))
    events.write(engine.locate(state.model, state.examples))


def generate_all(state: Generating) -> None:
    """Continue all prompts in all ways."""
    prompts = [example.ids for example in state.examples]
    for way in ways(state.config.train.seed):
        texts = generate(state.engine, state.model, prompts, way, state.config.generate)
        state.events.write(score(state.engine.tokenizer, state.prompts, texts, way))


def compare_scores(state: Generating) -> None:
    """Hold what the library draws by, at another temperature than 1, against whole passes."""
    if not isinstance(state.engine, ShowsScores):
        backend = state.config.backend.name
        message = f"the engine of {backend} shows no scores; add scores to hides of its option"
        raise TypeError(message)
    settings, seed = state.config.generate, state.config.train.seed
    sampling = Sampling(settings.most, OTHER_TEMPERATURE, seed * SEEDS_APART, cache=True)
    prompts = [example.ids for example in state.examples[:SCORED]]
    gaps = []
    for ids, (tokens, scores) in zip(
        prompts, state.engine.drawn(state.model, prompts, sampling), strict=True
    ):
        text = (*ids, *tokens[:-1])
        whole = state.engine.logits(state.model, [Example(text, (True,) * len(text))])
        gaps.append(score_gap(scores, whole[-len(tokens) :] / OTHER_TEMPERATURE))
    state.events.write(DrawScores(OTHER_TEMPERATURE, tuple(gaps)))


def shows_scores(state: Generating) -> bool:
    """Whether the library says by which scores it draws."""
    return "scores" not in state.config.backend.hides


def score_gap(found: Floats, due: Floats) -> float:
    """Return the largest difference, of what lies between the largest score and the middle one."""
    reach = due.max(-1) - np.median(due, axis=-1)
    return float((np.abs(found - due).max(-1) / reach).max())


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
    settings: GenerateSettings,
) -> list[list[int]]:
    """Return the tokens that continue each prompt."""
    sampling = Sampling(
        most=settings.most,
        temperature=0.0 if way.seed is None else settings.temperature,
        seed=(way.seed or 0) * SEEDS_APART,
        cache=way.cache,
    )
    return engine.generate(model, prompts, sampling)


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


STEPS = (
    Step("prepare", open_cell),
    Step("load", load),
    Step("generate", generate_all),
    Step("scores", compare_scores, shows_scores),
)
