"""The form of every recipe: a tuple of named steps over one state, walked in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Event
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import Base, Engine, Floats, Model
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.yardsticks.blame import owning_up


@dataclass
class State:
    """What the steps of a cell hand on to each other.

    Only the first three are there from the beginning; asking for another one before a step has
    set it raises AttributeError. Logits are those of the probe, (tokens, vocabulary).

    Attributes:
        config: the cell's; events: takes what is measured; output_dir: for all files.
        engine: of the cell's backend; data: to train on, and held out.
        base: what is known of the checkpoint; probe: the examples that logits are compared on.
        original: logits of the unquantized original.
        before: logits of the loaded base; after: those of the trained model.
        model: as it is now; dtypes: of the trained model's parameters, by name.
        examined: measures what has been trained, as it is read.
        saved: folder of the trained model.
    """

    config: Configuration
    events: EventLog
    output_dir: Path
    engine: Engine = field(init=False)
    data: Data = field(init=False)
    base: Base = field(init=False)
    probe: Sequence[Example] = field(init=False)
    original: Floats = field(init=False)
    before: Floats = field(init=False)
    after: Floats = field(init=False)
    model: Model = field(init=False)
    dtypes: Mapping[str, Any] = field(init=False)
    examined: Iterator[Event] = field(init=False)
    saved: Path = field(init=False)


S = TypeVar("S", bound=State)


def _always(state: State) -> bool:
    return True


@dataclass(frozen=True)
class Step(Generic[S]):
    """One stretch of a recipe.

    Attributes:
        name: also of the phase that it is timed under.
        act: reads the state, writes events, and sets what later steps need.
        applies: whether the cell has this step at all.
    """

    name: str
    act: Callable[[S], None]
    applies: Callable[[S], bool] = _always


def walk(steps: Sequence[Step[S]], state: S) -> S:
    """Take all steps that apply, each in a phase of its own; return the state after the last.

    Raises:
        MeterBroken: a meter of ours raised, and not the stack.
    """
    for step in steps:
        if step.applies(state):
            with state.events.phase(step.name), owning_up():
                step.act(state)
    return state
