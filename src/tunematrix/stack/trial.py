"""What doctor tries in a process of its own: a composed configuration → events, in seconds.

Both functions are recipes of one cell.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hydra.utils import instantiate

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Determinants
from tunematrix.evidence.log import EventLog
from tunematrix.stack.backends.common import SIDE, Backend
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.recipes.data import prepare
from tunematrix.stack.recipes.reference import measure
from tunematrix.stack.recipes.sft import evaluate, logit_error

DTYPES = ("float32", "bfloat16", "float16")
Multiply = Callable[[str], float]
"""Multiplies two squares of ones in a dtype, and returns the sum of the product."""


def quantizer(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Load a quantized base, score it beside the original, and train an adapter for one step."""
    with events.phase("reference"):
        engine = open_engine(config, events)
        data = prepare(config, engine.tokenizer)
        original = measure(engine, data, evaluate)
        events.write(original.score)
    with events.phase("load"):
        model = engine.load(original.base)
        events.write(engine.storage(model, original.base))
        logits = engine.logits(model, original.probe, gradient=True)
        events.write(logit_error(logits, original.logits))
    with events.phase("train"):
        attached = engine.attach(model, original.base)
        for event in engine.train(attached, original.base, data, events, output_dir):
            events.write(event)


def device(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Claim a backend's device, say what it is, and multiply on it in each dtype.

    Raises:
        Unavailable: it can't be claimed; its obstacle says what was found.
    """
    backend: Backend = instantiate(config.backend.implementation, _convert_="all")
    events.write(Determinants(backend.begin(seed=0, threads=1)))
    events.write(Determinants(backend.facts()))
    products = {dtype: problem_with(backend.multiply, dtype) for dtype in DTYPES}
    events.write(Determinants({"products": products}))


def problem_with(multiply: Multiply, dtype: str) -> str:
    """Return what is wrong with a product; empty where it is right."""
    try:
        found = multiply(dtype)
    except Exception as error:  # noqa: BLE001 - a refusal, of whatever kind, is the finding
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return "" if found == SIDE**3 else f"the product sums to {found:g} instead of {SIDE**3}"
