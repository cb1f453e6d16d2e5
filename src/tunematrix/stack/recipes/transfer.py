"""Transfer: recorded adapters of PEFT and of mlx-lm, each loaded by this environment's engine."""

from __future__ import annotations

from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Transfer
from tunematrix.evidence.log import EventLog
from tunematrix.stack import adapters
from tunematrix.stack.engines.common import Engine
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.recipes.sft import largest
from tunematrix.stack.recipes.steps import State, Step, walk
from tunematrix.stack.toyworld import models, truth
from tunematrix.stack.toyworld.truth import RecordedAdapter


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Run one cell; what it learns goes to `events`, converted adapters to `output_dir`."""
    loading = map(comparing, truth.adapters(config.method.name))
    walk((*STEPS, *loading), State(config, events, output_dir))


def open_cell(state: State) -> None:
    """Open the engine, and see that there is a truth of its model."""
    config = state.config
    state.engine = open_engine(config, state.events)
    truth.read(models.resolve(config.model.path, Path(config.cache_dir)))
    state.probe = truth.short_probe(state.engine.tokenizer)


def load(state: State) -> None:
    """Score the base without an adapter."""
    original = state.engine.original()
    state.base = state.engine.describe(original)
    state.before = state.engine.logits(original, state.probe)
    state.events.write(state.engine.locate(original, state.probe))


def comparing(recorded: RecordedAdapter) -> Step[State]:
    """Return the step that loads one recorded adapter and holds it to its own engine's logits."""

    def compare(state: State) -> None:
        engine = state.engine
        folder = in_own_format(engine, recorded.folder, state.output_dir / recorded.source)
        after = engine.logits(engine.restore(state.base, folder), state.probe)
        changed = largest(recorded.logits - state.before)
        state.events.write(Transfer(recorded.source, largest(after - recorded.logits), changed))

    return Step(recorded.source, compare)


def in_own_format(engine: Engine, folder: Path, converted: Path) -> Path:
    """Return a folder that the engine's own loader takes: as it is, or converted."""
    if adapters.format_of(folder) == engine.adapter_format:
        return folder
    adapters.convert(folder, converted)
    return converted


STEPS = (Step("prepare", open_cell), Step("load", load))
"""Before the adapters that are recorded of the method, each a step of its own."""
