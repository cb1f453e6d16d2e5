"""The order in which a loop has to take the rows of the data, by the rule that it follows.

A rule takes the number of rows, the rows of a micro-batch and the seed. It gives the micro-batches
of all processes, one after the other and pass after pass, as places in the data.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import torch

Order = Callable[[int, int, int], Iterator[list[int]]]


def seedable(rows: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield the micro-batches of Trainer: each pass is shuffled by the seed plus its number.

    That is accelerate's SeedableRandomSampler, which Trainer has taken by default since 4.39:
    https://huggingface.co/docs/accelerate/concept_guides/internal_mechanism
    """
    for number in itertools.count():
        generator = torch.Generator().manual_seed(seed + number)
        order = torch.randperm(rows, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, rows, size))


def streamed(rows: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield the micro-batches of a stream: the rows as they come, pass after pass."""
    while True:
        yield from (list(range(rows))[start : start + size] for start in range(0, rows, size))


def shuffled(rows: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield the micro-batches of our own loop, which drops what is left over at a pass's end."""
    source = random.Random(seed)
    while True:
        order = list(range(rows))
        source.shuffle(order)
        yield from (order[start : start + size] for start in range(0, rows - size + 1, size))
