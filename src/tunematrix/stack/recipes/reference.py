"""The unquantized original that a cell is judged by, measured once for all cells of a run.

Most cells of a suite begin with the same checkpoint and the same held-out rows. Whichever comes
first puts what it measured on a shelf in the run's folder; the others take it from there. Nothing
of it outlives the run, and a cell under a fault neither takes nor gives.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Event
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.stack.engines.common import Base, Engine, Floats, Model
from tunematrix.stack.engines.examples import Data, Example

PROBE_ROWS = 8

Evaluate = Callable[[Engine, Model, Data, str], Event]
"""Measures a model on held-out data, "before" training or "after" it."""

_LATER = {"method", "quantizer", "optimizer", "scheduler", "train", "dpo", "generate", "meters"}
"""Sections that an original knows nothing of, but for the settings named in `_digest`."""


@dataclass(frozen=True)
class Reference:
    """The unquantized original.

    Attributes:
        base: what it is. score: what it makes of the held-out rows.
        probe: the examples that logits are compared on.
        logits: its own on them, (tokens, vocabulary).
    """

    base: Base
    score: Event
    probe: Sequence[Example]
    logits: Floats


def measure(engine: Engine, data: Data, evaluate: Evaluate) -> Reference:
    """Load the original in float32, score it, and keep no more of it than its logits."""
    original = engine.original()
    score = evaluate(engine, original, data, "before")
    probe = data.held_out[:PROBE_ROWS]
    return Reference(engine.describe(original), score, probe, engine.logits(original, probe))


def measure_once(
    config: Configuration, engine: Engine, data: Data, evaluate: Evaluate
) -> Reference:
    """Return what `measure` does, from the shelf of the run where another cell has put it."""
    # What is in memory, and what a process has ever held, are what cells of memory are about.
    if not config.references or config.meters.allocator:
        return measure(engine, data, evaluate)
    place = Path(config.references) / _digest(config, engine, data)
    if not place.is_dir():
        _put(measure(engine, data, evaluate), place)
    return _take(place, data)


def _digest(config: Configuration, engine: Engine, data: Data) -> str:
    """Name everything that the figures of an original follow from."""
    files = sorted(file for file in engine.checkpoint.iterdir() if file.is_file())
    stamps = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    settings = config.model_dump(mode="json", exclude=_LATER | {"cache_dir", "references"})
    own = [config.train.seed, config.train.threads, sys.prefix, str(engine.checkpoint), stamps]
    held_out = [[example.ids, example.counted] for example in data.held_out]
    whole = json.dumps([settings, own, data.floor, held_out], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _put(reference: Reference, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place.parent))
    (folder / "base.json").write_text(json.dumps(asdict(reference.base)))
    np.save(folder / "logits.npy", reference.logits, allow_pickle=False)
    with EventLog(folder / "score.jsonl") as events:
        events.write(reference.score)
    with suppress(OSError):  # another cell was faster, with the same
        folder.rename(place)
    shutil.rmtree(folder, ignore_errors=True)


def _take(place: Path, data: Data) -> Reference:
    fields = json.loads((place / "base.json").read_text())
    base = Base(
        linears=tuple(fields["linears"]),
        shapes=tuple((rows, columns) for rows, columns in fields["shapes"]),
        parameters=tuple(fields["parameters"]),
        embedding=fields["embedding"],
    )
    (score,) = read_events(place / "score.jsonl")
    logits: Floats = np.load(place / "logits.npy", allow_pickle=False)
    return Reference(base, score, data.held_out[:PROBE_ROWS], logits)
