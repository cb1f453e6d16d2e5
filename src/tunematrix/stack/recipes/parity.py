"""Parity: logits, gradients and a loss trace of one engine against the recorded truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Parity
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.tensors import TensorKey
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.examples import Example
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.recipes.steps import State, Step, walk
from tunematrix.stack.recipes.tensors import keep_stages
from tunematrix.stack.toyworld import models, truth
from tunematrix.stack.toyworld.truth import Truth


@dataclass
class Comparing(State):
    """With `truth`, what was recorded, and the `rows` that its gradients are of."""

    truth: Truth = field(init=False)
    rows: Sequence[Example] = field(init=False)


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`."""
    walk(STEPS, Comparing(config, events, output_dir))


def open_cell(state: Comparing) -> None:
    """Open the engine, and read the truth."""
    config = state.config
    state.engine = open_engine(config, state.events)
    state.truth = truth.read(models.resolve(config.model.path, Path(config.cache_dir)))
    state.probe = truth.probe(state.engine.tokenizer)
    state.rows = truth.gradient_rows(state.engine.tokenizer)


def load(state: Comparing) -> None:
    """Load the model in the dtype that is compared, and say how and where it is."""
    engine, events = state.engine, state.events
    original = engine.original()
    state.base = engine.describe(original)
    state.model = original if is_full_precision(state) else engine.load(state.base)
    events.write(engine.storage(state.model, state.base))
    events.write(engine.weights(state.model, state.base))
    events.write(engine.locate(state.model, state.probe))


def compare_logits(state: Comparing) -> None:
    """Hold logits against the truth."""
    logits = state.engine.logits(state.model, state.probe)
    keep_stages(state, base=logits)
    state.events.write(of_logits(logits, state.truth))


def compare_gradients(state: Comparing) -> None:
    """Hold gradients against the truth."""
    gradients = state.engine.gradients(state.model, state.rows)
    if state.config.meters.tensors:
        for name, gradient in gradients.items():
            state.events.keep(TensorKey("gradient", 0, name), gradient)
    state.events.write(of_gradients(gradients, state.truth))


def compare_trace(state: Comparing) -> None:
    """Hold the losses of plain SGD against the truth."""
    batches = truth.batches(state.engine.tokenizer)
    losses = state.engine.descend(state.model, batches, truth.RATE)
    state.events.write(of_trace(losses, state.truth))


def is_full_precision(state: State) -> bool:
    """Whether plain SGD keeps its updates, which it loses on half-precision weights."""
    return state.config.precision.weights == "float32"


def of_logits(found: Floats, recorded: Truth) -> Parity:
    """Compare logits, (tokens, vocabulary)."""
    difference, (token, entry) = _worst(found - recorded.logits)
    return Parity("logits", difference, f"token {token}, entry {entry}", {})


def of_gradients(found: Mapping[str, Floats], recorded: Truth) -> Parity:
    """Compare the gradient of each parameter in proportion to its largest entry."""
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in found.items()}
    unmatched = sorted(found.keys() ^ recorded.sketches.keys())
    if unmatched:
        return Parity("gradients", math.inf, f"{unmatched[0]}, on one side only", norms)
    errors = {}
    for name, sketch in recorded.sketches.items():
        difference, _ = _worst(truth.sketch(found[name]) - sketch)
        errors[name] = difference / float(np.abs(sketch).max())
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    return Parity("gradients", errors[worst], worst, norms)


def of_trace(losses: Sequence[float], recorded: Truth) -> Parity:
    """Compare each batch's loss, in nats."""
    difference, (step,) = _worst(np.asarray(losses) - np.asarray(recorded.losses))
    values = {f"{number:02}": loss for number, loss in enumerate(losses, start=1)}
    return Parity("trace", difference, f"step {step + 1}", values)


def _worst(differences: NDArray[np.floating]) -> tuple[float, tuple[int, ...]]:
    """Return the largest magnitude and its place; numpy takes a nan for the largest of all."""
    place = np.unravel_index(int(np.abs(differences).argmax()), differences.shape)
    return float(np.abs(differences[place])), tuple(int(index) for index in place)


STEPS = (
    Step("prepare", open_cell),
    Step("load", load),
    Step("logits", compare_logits),
    Step("gradients", compare_gradients),
    Step("trace", compare_trace, is_full_precision),
)
