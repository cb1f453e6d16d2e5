"""Transfer: recorded adapters of PEFT and of mlx-lm, each loaded by this environment's engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunematrix.evidence.events import Transfer
from tunematrix.evidence.log import EventLog
from tunematrix.stack import adapters
from tunematrix.stack.engines.common import Engine
from tunematrix.stack.recipes.common import open_engine
from tunematrix.stack.recipes.sft import largest
from tunematrix.stack.toyworld import models, truth


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; what it learns goes to `events`, converted adapters to `output_dir`."""
    method = str(config["method"]["name"])
    with events.phase("prepare"):
        engine = open_engine(config, events)
        truth.read(models.resolve(config["model"]["path"], Path(config["cache_dir"])))
        probe = truth.short_probe(engine.tokenizer)
    with events.phase("load"):
        original = engine.original()
        base, before = engine.describe(original), engine.logits(original, probe)
        events.write(engine.located(original, probe))
    for recorded in truth.adapters(method):
        with events.phase(recorded.source):
            folder = in_own_format(engine, recorded.folder, output_dir / recorded.source)
            after = engine.logits(engine.restore(base, folder), probe)
            changed = largest(recorded.logits - before)
            events.write(Transfer(recorded.source, largest(after - recorded.logits), changed))


def in_own_format(engine: Engine, folder: Path, converted: Path) -> Path:
    """Return a folder that the engine's own loader takes: as it is, or converted."""
    if adapters.format_of(folder) == engine.adapter_format:
        return folder
    adapters.convert(folder, converted)
    return converted
