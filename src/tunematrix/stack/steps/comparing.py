"""One model asked in several ways → events on what is to be equal, for checks to judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from tunematrix.evidence.events import StepAdapter, StepCache, StepTogether
from tunematrix.stack.steps.answering import Asking, Prompt, logits
from tunematrix.stack.steps.job import StepJob

MOST_PROMPTS = 16
"""That are asked in several ways: the shortest, the longest, and those between at equal steps."""
MOST_TOKENS = 64
"""Of an answer, since each prompt is also answered alone."""
POSITIONS = 16
"""Of a prompt, the last, whose logits are compared with an adapter and without."""


@dataclass(frozen=True)
class Alone:
    """A prompt's likeliest answer when nothing else is asked.

    Attributes:
        tokens: of the answer.
        cached: logits that the library had for each, (tokens, vocabulary), with its cache.
        whole: the same by one whole pass over prompt and answer: each position sees what is
            before it, and nothing else.
    """

    tokens: list[int]
    cached: torch.Tensor
    whole: torch.Tensor


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
        alone = asked_alone(job, asking, prompt, most)
        gaps.append(gap(alone, beside))
        regrets.append(regret(alone))
        moved.append(difference(alone))
        job.progress("prompts compared", done, len(prompts))
    batch = min(asking.batch, len(prompts))
    job.events.write(StepTogether(job.name, batch, tuple(gaps)))
    job.events.write(StepCache(job.name, tuple(regrets), tuple(moved)))


def asked_alone(job: StepJob, asking: Asking, prompt: Prompt, most: int) -> Alone:
    """Ask one prompt with a cache, and look at the answer by a whole pass."""
    model = cast("PreTrainedModel", asking.model)
    tokens, cached = asking.decoder.likeliest(model, prompt.ids, most)
    ids = (*prompt.ids, *tokens[:-1])
    return Alone(tokens, cached, logits(model, ids, job.device, len(tokens)))


def gap(alone: Alone, beside: Sequence[int]) -> float:
    """Return how far from a tie the tokens are at which two answers part; 0 where none does."""
    if list(beside) == alone.tokens:
        return 0.0
    pairs = enumerate(zip(alone.tokens, beside, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), None)
    if place is None:
        return math.inf  # one goes on where the other has ended
    at = alone.whole[place]
    apart = at[alone.tokens[place]] - at[beside[place]]
    return float(apart.abs() / _scale(at))


def regret(alone: Alone) -> float:
    """Return by how much the tokens that were taken fall short of the likeliest, at most."""
    taken = torch.tensor(alone.tokens, device=alone.whole.device).unsqueeze(-1)
    short = alone.whole.amax(-1) - alone.whole.gather(-1, taken).squeeze(-1)
    return float((short / _scale(alone.whole)).max())


def difference(alone: Alone) -> float:
    """Return the largest difference that the cache makes to a logit."""
    apart = (alone.cached - alone.whole).abs().amax(-1)
    return float((apart / _scale(alone.whole)).max())


def _scale(at: torch.Tensor) -> torch.Tensor:
    """Return how far the largest logit is above the middle one; some models bar half of theirs."""
    return (at.amax(-1) - at.median(-1).values).clamp(min=torch.finfo(at.dtype).tiny)


def base_logits(job: StepJob, asking: Asking, prompts: Sequence[Prompt]) -> list[torch.Tensor]:
    """Return the logits of each prompt's last positions, kept in the machine's own memory."""
    return [logits(asking.model, prompt.ids, job.device, POSITIONS).cpu() for prompt in prompts]


def compare_adapter(
    job: StepJob,
    asking: Asking,
    prompts: Sequence[Prompt],
    with_adapter: Sequence[Sequence[int]],
    base: Sequence[torch.Tensor],
    most: int,
) -> None:
    """Ask prompts with the adapter switched off, and write down what it makes of them.

    Args:
        with_adapter: the tokens of the likeliest answer of each; most: of them.
        base: the logits of each before the adapter was attached.
    """
    model = asking.model
    assert isinstance(model, PeftModel)
    on = base_logits(job, asking, prompts)
    with model.disable_adapter():
        off = base_logits(job, asking, prompts)
        without = asking.likeliest(prompts, most)
    other = sum(one != list(two) for one, two in zip(without, with_adapter, strict=True))
    event = StepAdapter(job.name, len(prompts), other, _apart(on, off), _apart(off, base))
    job.events.write(event)


def _apart(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Return the largest difference; nan where anything is nan."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())
