"""Numbers as trainers write them, and the names that they give to steps, losses and the like."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.I)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SHORTENED = re.compile(r"([+-]?\d+(?:\.\d+)?)([kKmMbB])")
_FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9}

STEP_NAMES = (
    "global_step/max_steps",
    "global_step",
    "trainer/global_step",
    "optimizer_step",
    "step",
    "current_steps",
    "iteration",
    "iter",
    "_step",
    "steps",
)
LOSS_NAMES = ("loss_step", "loss", "lm_loss", "loss_train", "total_loss", "loss_epoch")
NORM_NAMES = (
    "grad_norm",
    "gradient_norm",
    "grad_norm_total",
    "total_grad_norm",
    "total_norm",
    "grad_2_0_norm_total",
    "gnorm",
)
RATE_NAMES = ("learning_rate", "lr")
EVALUATION_WORDS = frozenset({"val", "valid", "validation", "eval", "evaluation", "test", "dev"})
_TRAINING = re.compile(r"(?:train|training)[/_](?=.)")
_SEPARATORS = re.compile(r"[\s.\-]+")
_WORD_ENDS = re.compile(r"[/_]")


def number(value: object) -> float | None:
    """Return the number that a value is or spells; None where it is none.

    Reads `8.266`, `1e-07`, `-3`, `nan`, `inf`, `1,145` and `0.2k`.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if _THOUSANDS.fullmatch(text):
        return float(text.replace(",", ""))
    if shortened := _SHORTENED.fullmatch(text):
        return float(shortened[1]) * _FACTORS[shortened[2].lower()]
    return None


def step_number(value: object) -> int | None:
    """Return the step that a value is or spells, `1/6` included; None where it is none."""
    if isinstance(value, str):
        value = value.partition("/")[0]
    read = number(value)
    counts = read is not None and math.isfinite(read) and read >= 0 and read == int(read)
    return int(read) if counts and read is not None else None


def plain_name(name: str) -> str:
    """Return a name in one spelling: `Train loss`, `train/loss` and `loss` are all `loss`."""
    joined = _SEPARATORS.sub("_", name.strip()).lower().strip("_" if name[:1] != "_" else "")
    return _TRAINING.sub("", joined, count=1) if _TRAINING.match(joined) else joined


class Names(NamedTuple):
    """The names under which a log keeps what a step has.

    Attributes:
        steps, losses, norms, rates: as the log spells them, best first; empty where it has none.
    """

    steps: tuple[str, ...]
    losses: tuple[str, ...]
    norms: tuple[str, ...]
    rates: tuple[str, ...]


def recognise(names: Iterable[str]) -> Names:
    """Return which of a log's names are those of the step, the training loss and so on."""
    plain = {name: plain_name(name) for name in names}

    def among(known: tuple[str, ...]) -> tuple[str, ...]:
        hits = [name for name in plain if plain[name] in known]
        return tuple(sorted(hits, key=lambda name: known.index(plain[name])))

    losses = among(LOSS_NAMES) or _only_training_loss(plain)
    rates = among(RATE_NAMES) or tuple(n for n, spelled in plain.items() if spelled[:3] == "lr_")
    return Names(among(STEP_NAMES), losses, among(NORM_NAMES), rates)


def _only_training_loss(plain: Mapping[str, str]) -> tuple[str, ...]:
    """Return a loss of a name of the project's own, such as `train/mse_loss`, if it is the only."""
    named = [
        name
        for name in plain
        if name.lower().startswith("train") and "loss" in _WORD_ENDS.split(plain[name])
    ]
    return tuple(named) if len(named) == 1 else ()


def first_number(record: Mapping[str, object], names: Iterable[str]) -> float | None:
    """Return the first of these values that is a number."""
    for name in names:
        if (value := number(record.get(name))) is not None:
            return value
    return None


def first_step(record: Mapping[str, object], names: Iterable[str]) -> int | None:
    """Return the first of these values that is a step's number."""
    for name in names:
        if (value := step_number(record.get(name))) is not None:
            return value
    return None
