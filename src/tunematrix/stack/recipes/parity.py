"""Parity: logits, gradients and a loss trace of one engine against the recorded truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunematrix.evidence.events import Parity
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.toyworld import models, truth
from tunematrix.stack.toyworld.truth import Truth


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`.

    In half precision there is no trace: plain SGD on half-precision weights loses its updates.
    """
    in_full = config["precision"]["weights"] == "float32"
    with events.phase("prepare"):
        engine = open_engine(config, events)
        recorded = truth.read(models.resolve(config["model"]["path"], Path(config["cache_dir"])))
        probe = truth.probe(engine.tokenizer)
    with events.phase("load"):
        original = engine.original()
        base = engine.describe(original)
        model = original if in_full else engine.load(base)
        events.write(engine.storage(model, base))
        events.write(engine.weights(model, base))
        events.write(engine.located(model, probe))
    with events.phase("logits"):
        events.write(of_logits(engine.logits(model, probe), recorded))
    with events.phase("gradients"):
        events.write(of_gradients(engine.gradients(model, probe), recorded))
    if in_full:
        with events.phase("trace"):
            losses = engine.descend(model, truth.batches(engine.tokenizer), truth.RATE)
            events.write(of_trace(losses, recorded))


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
