"""What every recipe begins with: a composed configuration → the engine that it names."""

from __future__ import annotations

import os
from importlib import import_module

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Determinants
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.common import Engine


def open_engine(config: Configuration, events: EventLog) -> Engine:
    """Make the engine of a backend, seed it, and write down what now determines the figures.

    That is also how its tokenizer makes tokens of texts.
    """
    engine: Engine = import_module(config.backend.engine).Engine(config)
    events.write(Determinants(engine.begin()))
    events.write(rules.compare(engine.tokenizer))
    return engine


def leads(config: Configuration) -> bool:
    """Return whether this is the first of the processes that run the cell, or the only one."""
    return config.launcher.processes == 1 or os.environ["RANK"] == "0"
