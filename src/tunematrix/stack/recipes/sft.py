"""Supervised fine-tuning: load, attach, train, save and reload one cell, measuring all the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration, adapters
from tunematrix.evidence.events import AdapterUses, Attached, Evaluation, LogitError, Merged, Reload
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import AdapterLogits, Engine, Floats, Model
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.recipes import saved as saved_settings
from tunematrix.stack.recipes import tensors
from tunematrix.stack.recipes.common import leads, open_engine
from tunematrix.stack.recipes.data import prepare
from tunematrix.stack.recipes.reference import Evaluate, measure_once
from tunematrix.stack.recipes.steps import State, Step, walk
from tunematrix.stack.yardsticks import starts

Prepare = Callable[[Configuration, PreTrainedTokenizerBase], Data]
"""Draws a cell's data."""


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`, everything it makes to `output_dir`."""
    walk(STEPS, State(config, events, output_dir))


def fine_tuning(prepare: Prepare, evaluate: Evaluate) -> tuple[Step[State], ...]:
    """Return the steps of any recipe that trains, on data of its own, judged by its own measure."""

    def open_cell(state: State) -> None:
        state.engine = open_engine(state.config, state.events)
        state.data = prepare(state.config, state.engine.tokenizer)

    def measure_original(state: State) -> None:
        reference = measure_once(state.config, state.engine, state.data, evaluate)
        state.events.write(reference.score)
        state.base, state.probe, state.original = reference.base, reference.probe, reference.logits

    def evaluate_trained(state: State) -> None:
        state.events.write(evaluate(state.engine, state.model, state.data, "after"))
        state.after = state.engine.logits(state.model, state.probe)
        tensors.keep_stages(state, base=state.before, trained=state.after)

    return (
        Step("prepare", open_cell),
        Step("reference", measure_original),
        Step("load", load),
        Step("dequantized", tensors.keep_dequantized, lambda s: s.config.meters.dequantized),
        Step("attach", attach),
        Step("train", train),
        Step("examine", examine),
        # One of several processes that have trained the same is enough to judge and to save.
        Step("evaluate", evaluate_trained, _leads),
        Step("save", save, _leads),
        Step("reload", load_again, _leads),
        Step("merge", merge, lambda s: _leads(s) and s.config.meters.merge),
        Step("adapters", use_adapters, lambda s: _leads(s) and s.config.meters.adapters),
        Step("loaders", tensors.keep_ways, lambda s: _leads(s) and s.config.meters.loaders),
        Step("memory", measure_memory, lambda s: _leads(s) and s.config.meters.allocator),
    )


def load(state: State) -> None:
    """Load the base as the quantizer stores it, and hold it to its checkpoint and the original."""
    engine, events, base = state.engine, state.events, state.base
    state.model = engine.load(base)
    events.write(engine.storage(state.model, base))
    events.write(engine.weights(state.model, base))
    state.before = engine.logits(state.model, state.probe, gradient=True)
    events.write(logit_error(state.before, state.original))


def attach(state: State) -> None:
    """Make the model trainable, and say what that alone has changed."""
    engine, events, base = state.engine, state.events, state.base
    state.model = engine.attach(state.model, base)
    events.write(engine.trainable(state.model, base))
    start = engine.logits(state.model, state.probe, gradient=True)
    moved = largest(start - state.before)
    drawn = starts.is_drawn(state.config.train) or adapters.has_company(
        state.config.method.implementation
    )
    first = engine.adapter_start(state.model, base)
    own = (first.apart, first.width, first.numbers)
    events.write(Attached(moved, largest(state.before), drawn, *own))
    events.write(engine.memory_beside(state.model, "before"))


def train(state: State) -> None:
    """Train under all meters."""
    folder = state.output_dir / "trainer"
    state.examined = state.engine.train(state.model, state.base, state.data, state.events, folder)


def examine(state: State) -> None:
    """Measure what has been trained: what changed, its method's formula, what is left beside it."""
    for event in state.examined:
        state.events.write(event)
    state.events.write(state.engine.memory_beside(state.model, "after"))


def save(state: State) -> None:
    """Save what was trained, and let go of it."""
    engine = state.engine
    state.saved = state.output_dir / "model"
    engine.save(state.model, state.saved)
    engine.tokenizer.save_pretrained(state.saved)
    checkpoints = sorted((state.output_dir / "trainer").glob("checkpoint-*"))
    for folder in (state.saved, *checkpoints):
        _compare_settings(state, folder)
    state.dtypes = engine.dtypes(state.model)
    del state.model


def load_again(state: State) -> None:
    """Hold what was saved, loaded from files alone, to the trained model's logits."""
    model = state.engine.restore(state.base, state.saved, state.dtypes)
    again = state.engine.logits(model, state.probe)
    state.events.write(Reload(largest(again - state.after), _change(state)))


def merge(state: State) -> None:
    """Hold the saved adapter, merged into its base and saved, to the trained model's logits."""
    folder = state.saved.with_name("merged")
    model = state.engine.merge(state.base, state.saved, folder)
    _compare_settings(state, folder)
    # Before a pass: some libraries repack what they store then.
    shares = state.engine.shares(model, state.base, state.saved)
    merged = state.engine.logits(model, state.probe)
    tensors.keep_stages(state, merged=merged)
    state.events.write(Merged(largest(merged - state.after), _change(state), shares))


def use_adapters(state: State) -> None:
    """Hold a saved adapter that is switched, renamed and combined to what it must give then."""
    logits = AdapterLogits(state.before, state.after)
    uses = state.engine.uses(state.base, state.saved, state.dtypes, state.probe, logits)
    state.events.write(AdapterUses(tuple(uses), _change(state)))


def measure_memory(state: State) -> None:
    """Train a fresh model for the allocator's peak alone."""
    folder = state.output_dir / "memory"
    state.events.write(state.engine.allocator_peak(state.base, state.data, folder))


def _leads(state: State) -> bool:
    return leads(state.config)


def _change(state: State) -> float:
    """Return the largest difference that training made to a logit."""
    return largest(state.after - state.before)


def _compare_settings(state: State, folder: Path) -> None:
    engine = state.engine
    # mlx-lm copies the base's configuration, and goes by the weights themselves as it loads.
    names_dtype = engine.adapter_format == "peft"
    settings = saved_settings.compare(
        engine.checkpoint, folder, engine.tokenizer, names_dtype=names_dtype
    )
    if settings is not None:
        state.events.write(settings)


def evaluate(engine: Engine, model: Model, data: Data, when: str) -> Evaluation:
    """Score held-out rows of the target dialect beside their exact floor."""
    loss, _ = engine.loss(model, data.held_out)
    return Evaluation(when, loss, data.floor)


def logit_error(logits: Floats, original: Floats) -> LogitError:
    """Compare the loaded base's logits on the probe with the original's."""
    error = np.linalg.norm(logits - original) / np.linalg.norm(original)
    return LogitError(float(error))


def largest(difference: Floats) -> float:
    """Return the largest magnitude; a nan among them is the largest of all."""
    return float(np.abs(difference).max())


STEPS = fine_tuning(prepare, evaluate)
