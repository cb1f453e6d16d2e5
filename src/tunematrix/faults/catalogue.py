"""What a fault says of itself, so that it can be listed, run and scored by its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

CLASSES = (
    "data",
    "labels",
    "tokenizer",
    "loss",
    "gradients",
    "accumulation",
    "optimizer",
    "scheduler",
    "precision",
    "adapter",
    "quantizer",
    "checkpoint",
    "resume",
    "distribution",
    "generation",
    "alignment",
    "memory",
    "process",
    "device",
    "logging",
    "configuration",
)
"""Of what a fault can break; those from outside may name others."""

Config = Mapping[str, Any]
"""The composed configuration of the cell that a fault is entered in."""
Fault = Callable[[Config], AbstractContextManager[None]]


def fault(
    fault_class: str, *, seen_by: tuple[str, ...] = ()
) -> Callable[[Callable[[Config], Iterator[None]]], Fault]:
    """Make a fault of a generator that sabotages before its `yield`, and puts back after it.

    Args:
        fault_class: one of `CLASSES`.
        seen_by: the cells and relations to try it on, where those of its class can't see it; ids
            with `*` for the backend, as in `lora[*-lora-hqq-int4]`.
    """

    def make(generator: Callable[[Config], Iterator[None]]) -> Fault:
        made = contextmanager(generator)
        vars(made).update(fault_class=fault_class, seen_by=seen_by)
        return made

    return make
