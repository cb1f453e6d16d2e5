"""Supervised fine-tuning: load, attach, train, save and reload one cell, measuring all the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import Attached, Evaluation, Event, LogitError, Merged, Reload
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines import starts
from tunematrix.stack.engines.common import Base, Engine, Floats, Model
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.recipes import saved as saved_settings
from tunematrix.stack.recipes import tensors
from tunematrix.stack.recipes.common import leads, open_engine
from tunematrix.stack.recipes.data import prepare

PROBE_ROWS = 8

Prepare = Callable[[Mapping[str, Any], PreTrainedTokenizerBase], Data]
"""Draws a cell's data."""
Evaluate = Callable[[Engine, Model, Data, str], Event]
"""Measures a model on held-out data, "before" training or "after" it."""


@dataclass(frozen=True)
class Reference:
    """The unquantized original: what it is, and its logits on the probe, (tokens, vocabulary)."""

    base: Base
    probe: Sequence[Example]
    logits: Floats


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`, everything it makes to `output_dir`."""
    fine_tune(config, events, output_dir, prepare, evaluate)


def fine_tune(
    config: Mapping[str, Any],
    events: EventLog,
    output_dir: Path,
    prepare: Prepare,
    evaluate: Evaluate,
) -> None:
    """Run one cell of any recipe that trains, on data of its own and judged by its own measure."""
    saved = output_dir / "model"
    with events.phase("prepare"):
        engine = open_engine(config, events)
        data = prepare(config, engine.tokenizer)
    with events.phase("reference"):
        reference = measure_reference(engine, data, events, evaluate)
    base, probe = reference.base, reference.probe
    with events.phase("load"):
        model = engine.load(base)
        events.write(engine.storage(model, base))
        events.write(engine.weights(model, base))
        before = engine.logits(model, probe, gradient=True)
        events.write(logit_error(before, reference))
    tensors.keep_dequantized(config, events, engine, base, probe, before)
    with events.phase("attach"):
        model = engine.attach(model, base)
        events.write(engine.trainable(model, base))
        start = engine.logits(model, probe, gradient=True)
        moved, drawn = largest(start - before), starts.is_drawn(config["train"])
        events.write(Attached(moved, largest(before), drawn, engine.started(model, base)))
        events.write(engine.held(model, "before"))
    with events.phase("train"):
        engine.train(model, base, data, events, output_dir / "trainer")
        events.write(engine.held(model, "after"))
    if not leads(config):
        return  # one of several that have trained the same is enough to judge and to save
    with events.phase("evaluate"):
        events.write(evaluate(engine, model, data, "after"))
        after = engine.logits(model, probe)
        tensors.keep_stages(config, events, base=before, trained=after)
    with events.phase("save"):
        engine.save(model, saved)
        engine.tokenizer.save_pretrained(saved)
        for folder in (saved, *sorted((output_dir / "trainer").glob("checkpoint-*"))):
            _compare_settings(engine, folder, events)
    dtypes = engine.dtypes(model)
    del model
    load_again(config, events, engine, reference, saved, dtypes, before, after)
    if config["meters"]["allocator"]:
        with events.phase("memory"):
            events.write(engine.allocator_peak(base, data, output_dir / "memory"))


def load_again(
    config: Mapping[str, Any], events: EventLog, engine: Engine, reference: Reference,
    saved: Path, dtypes: Mapping[str, Any], before: Floats, after: Floats,
) -> None:  # fmt: skip
    """Hold what was saved, loaded in all ways that are asked for, to the trained model's logits.

    `before` and `after` training, both are (tokens, vocabulary); `dtypes` are the trained model's.
    """
    base, probe = reference.base, reference.probe
    change = largest(after - before)
    with events.phase("reload"):
        again = engine.logits(engine.restore(base, saved, dtypes), probe)
        events.write(Reload(largest(again - after), change))
    if config["meters"]["merge"]:
        with events.phase("merge"):
            merged = engine.merge(base, saved, saved.with_name("merged"))
            _compare_settings(engine, saved.with_name("merged"), events)
            events.write(Merged(largest(engine.logits(merged, probe) - after), change))
    tensors.keep_ways(config, events, engine, base, probe, saved)


def _compare_settings(engine: Engine, folder: Path, events: EventLog) -> None:
    if (found := saved_settings.compare(engine.checkpoint, folder, engine.tokenizer)) is not None:
        events.write(found)


def evaluate(engine: Engine, model: Model, data: Data, when: str) -> Evaluation:
    """Score held-out rows of the target dialect beside their exact floor."""
    loss, _ = engine.loss(model, data.held_out)
    return Evaluation(when, loss, data.floor)


def measure_reference(
    engine: Engine, data: Data, events: EventLog, evaluate: Evaluate = evaluate
) -> Reference:
    """Load the original in float32, score it, and keep no more of it than its logits."""
    original = engine.original()
    events.write(evaluate(engine, original, data, "before"))
    probe = data.held_out[:PROBE_ROWS]
    return Reference(engine.describe(original), probe, engine.logits(original, probe))


def logit_error(logits: Floats, reference: Reference) -> LogitError:
    """Compare the loaded base's logits on the probe with the original's."""
    error = np.linalg.norm(logits - reference.logits) / np.linalg.norm(reference.logits)
    return LogitError(float(error))


def largest(difference: Floats) -> float:
    """Return the largest magnitude; a nan among them is the largest of all."""
    return float(np.abs(difference).max())
