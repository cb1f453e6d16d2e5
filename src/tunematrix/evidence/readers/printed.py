"""Logs that are lines printed for people: `step 1 | loss 8.36`, `{'loss': '8.27'}`, a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList, epoch_of, step_of
from tunematrix.evidence.readers.values import (
    EVALUATION_WORDS,
    LOSS_NAMES,
    NORM_NAMES,
    RATE_NAMES,
    STEP_NAMES,
    number,
    plain_name,
    step_number,
)

_DICT = re.compile(r"\{'.*'\s*:.*\}")
_ENTRY = re.compile(r"'([^']+)'\s*:\s*(?:'([^']*)'|([^,'}\s]+))")

_NUMBER = (
    r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
    r"|nan\b|inf(?:inity)?\b)[kKmMbB]?"
)
_PAIR = re.compile(
    rf"([A-Za-z_]+(?:[ /_-][A-Za-z_]+){{0,3}})\s*[:=]?[\s\[(#]*({_NUMBER})"
    r"(?=[\s,;:|/)\]}]|\.?$|\.\s)",
    re.IGNORECASE,
)
_COUNTER_WORD = re.compile(r"step|iter|epoch", re.IGNORECASE)
_NO_COUNTERS = frozenset({"best", "every", "final", "last", "logging", "max", "min", "next"}) | {
    *("accumulation", "num", "of", "per", "save", "total", "warmup")
}


def dict_lines(log: LogFile) -> LogContent | None:
    """Read the lines in which transformers' Trainer prints what it logs, a Python dict.

    Its numbers may be strings, rounded. Most of these lines have no step, so they are counted:
    with `logging_steps: 10`, the line of step 20 is number 2.
    """
    steps = StepList()
    for text, _ in log.lines(b"'loss'"):
        if printed := _DICT.search(text):
            record: dict[str, object] = {
                name: quoted or plain for name, quoted, plain in _ENTRY.findall(printed[0])
            }
            if step := step_of(record, ordinal=len(steps) + 1):
                steps.add(step, epoch_of(record))
    return LogContent(steps.steps, cut_off=log.ends_inside_a_line) if steps else None


def step_lines(log: LogFile) -> LogContent | None:
    """Read lines that name a step and a training loss, as `key:value`, `key=value` or in words.

    A program prints other lines with such names as well: evaluations, a summary. So lines are
    told apart by the names in front of the two numbers, and the sort with most steps is the
    training's; evaluations and counts of epochs only where there is nothing else.
    """
    sorts: dict[tuple[bool, str, str], StepList] = {}
    for text, ended in log.lines(b"loss"):
        counts = ended and _COUNTER_WORD.search(text)  # most lines are passed over by that alone
        if counts and (line := _printed_step(text)):
            sort, step, epoch = line
            sorts.setdefault(sort, StepList()).add(step, epoch)
    if not sorts:
        return None
    training = max(sorts, key=lambda sort: (sort[0], len(sorts[sort])))
    return LogContent(sorts[training].steps, cut_off=log.ends_inside_a_line)


@dataclass(frozen=True)
class _Name:
    """What stands in front of a number.

    Attributes:
        words: in lower case, joined by `_`.
        counter: the known name of a counter that they end with; empty where they name none.
        loss: the known name of a training loss that they are; empty where they are none.
        value: the known name of a gradient norm or learning rate that they end with.
        evaluates: whether they name a loss of other data than the training's.
    """

    words: str
    counter: str
    loss: str
    value: str
    evaluates: bool


_COUNTERS = (*STEP_NAMES, "epoch")


@lru_cache(maxsize=1024)
def _name(text: str) -> _Name:
    words = [word for word in re.split(r"[ /_-]+", text.lower()) if word]
    endings = ["_".join(words[start:]) for start in range(len(words))]
    plain = plain_name(endings[0]) if endings else ""
    evaluates = "loss" in words and not EVALUATION_WORDS.isdisjoint(words)
    return _Name(
        words="_".join(words),
        counter=_first(endings, _COUNTERS) if _NO_COUNTERS.isdisjoint(words) else "",
        loss=plain if plain in LOSS_NAMES else "",
        value=_first(endings, NORM_NAMES + RATE_NAMES),
        evaluates=evaluates,
    )


def _first(names: list[str], known: tuple[str, ...]) -> str:
    return next((name for name in names if name in known), "")


def _printed_step(text: str) -> tuple[tuple[bool, str, str], LoggedStep, float | None] | None:
    """Return the sort of a line, its step and its epoch; None where it is no training line."""
    pairs = [(_name(name), value) for name, value in _PAIR.findall(text)]
    losses = {name.loss: value for name, value in reversed(pairs) if name.loss}
    counts = {
        name.counter: (name.words, step)
        for name, value in reversed(pairs)
        if name.counter and (step := step_number(value)) is not None
    }
    counter = next((name for name in _COUNTERS if name in counts), None)
    loss = next((name for name in LOSS_NAMES if name in losses), None)
    if loss is None or counter is None:
        return None
    words, step = counts[counter]
    values = {name.value: number(value) for name, value in pairs if name.value}
    logged = LoggedStep(
        step, number(losses[loss]), _one_of(values, NORM_NAMES), _one_of(values, RATE_NAMES)
    )
    epoch = counts.get("epoch")
    is_training = counter != "epoch" and not any(name.evaluates for name, _ in pairs)
    return (is_training, words, loss), logged, float(epoch[1]) if epoch else None


def _one_of(values: dict[str, float | None], names: tuple[str, ...]) -> float | None:
    return next((values[name] for name in names if name in values), None)
