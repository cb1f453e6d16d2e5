"""One model asked in several ways → events on what is to be equal, for checks to judge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunematrix.evidence.events import StepAdapter, StepCache, StepTogether
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.steps.asking import Alone, Asking
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.prompts import Prompt

MOST_PROMPTS = 16
"""That are asked in several ways: the shortest, the longest, and those between at equal steps."""
MOST_TOKENS = 64
"""Of an answer, since each prompt is also answered alone."""
POSITIONS = 16
"""Of a prompt, the last, whose logits are compared with an adapter and without."""


def spread(prompts: Sequence[Prompt], most: int = MOST_PROMPTS) -> list[int]:
    """Return the places of a few prompts, of all lengths that there are."""
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place].ids))
    if len(by_length) <= most:
        return by_length
    step = (len(by_length) - 1) / (most - 1)
    return [by_length[round(number * step)] for number in range(most)]


def compare(
    job: StepJob,
    asking: Asking,
    prompts: Sequence[Prompt],
    together: Sequence[Sequence[int]],
    most: int,
) -> None:
    """Ask prompts one by one, and write down how that differs from other ways.

    Args:
        together: the tokens of the likeliest answer of each, asked in batches.
        most: tokens of each.
    """
    gaps, regrets, moved = [], [], []
    for done, (prompt, beside) in enumerate(zip(prompts, together, strict=True), start=1):
        alone = asking.alone(prompt, most)
        gaps.append(gap(alone, beside))
        regrets.append(regret(alone))
        moved.append(difference(alone))
        job.progress("prompts compared", done, len(prompts))
    batch = min(asking.batch, len(prompts))
    job.events.write(StepTogether(job.name, batch, tuple(gaps)))
    job.events.write(StepCache(job.name, tuple(regrets), tuple(moved)))


def gap(alone: Alone, beside: Sequence[int]) -> float:
    """Return how far from a tie the tokens are at which two answers part; 0 where none does."""
    if list(beside) == list(alone.tokens):
        return 0.0
    pairs = enumerate(zip(alone.tokens, beside, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), None)
    if place is None:
        return math.inf  # one goes on where the other has ended
    at = alone.whole[place]
    apart = at[alone.tokens[place]] - at[beside[place]]
    return float(abs(apart) / _scale(at))


def regret(alone: Alone) -> float:
    """Return by how much the tokens that were taken fall short of the likeliest, at most."""
    taken = np.take_along_axis(alone.whole, np.array(alone.tokens)[:, None], axis=-1)[:, 0]
    return float(((alone.whole.max(-1) - taken) / _scale(alone.whole)).max())


def difference(alone: Alone) -> float:
    """Return the largest difference that the cache makes to a logit."""
    apart = np.abs(alone.cached - alone.whole).max(-1)
    return float((apart / _scale(alone.whole)).max())


def _scale(at: Floats) -> Floats:
    """Return how far the largest logit is above the middle one; some models bar half of theirs."""
    middle = (at.shape[-1] - 1) // 2
    above: Floats = at.max(-1) - np.partition(at, middle, axis=-1)[..., middle]
    return np.maximum(above, np.finfo(at.dtype).tiny)


def base_logits(asking: Asking, prompts: Sequence[Prompt]) -> list[Floats]:
    """Return the logits of each prompt's last positions."""
    return [asking.logits(prompt, POSITIONS) for prompt in prompts]


def compare_adapter(
    job: StepJob,
    asking: Asking,
    prompts: Sequence[Prompt],
    with_adapter: Sequence[Sequence[int]],
    base: Sequence[Floats],
    most: int,
) -> None:
    """Ask prompts with the adapter switched off, and write down what it makes of them.

    Args:
        with_adapter: the tokens of the likeliest answer of each; most: of them.
        base: the logits of each before the adapter was attached.
    """
    on = base_logits(asking, prompts)
    with asking.without_adapter():
        off = base_logits(asking, prompts)
        without = asking.likeliest(prompts, most)
    other = sum(one != list(two) for one, two in zip(without, with_adapter, strict=True))
    event = StepAdapter(job.name, len(prompts), other, _apart(on, off), _apart(off, base))
    job.events.write(event)


def _apart(one: Sequence[Floats], other: Sequence[Floats]) -> float:
    """Return the largest difference; nan where anything is nan."""
    return float(np.max([np.abs(a - b).max() for a, b in zip(one, other, strict=True)]))
