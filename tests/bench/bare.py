"""The training phase of a cell without any meter, timed inside its own process."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.stack.engines.torch import Engine
from tunematrix.stack.engines.torch.loops import LOOPS
from tunematrix.stack.recipes.data import prepare


def run(run_dir: str) -> None:
    """Build the cell's model, train it in the same loop, and write the seconds to bare.txt."""
    folder = RunDir(Path(run_dir))
    config = folder.read_cell().config
    cache = str((folder.path / config.cache_dir).resolve())
    with EventLog(folder.events) as events:
        engine = Engine(config.model_copy(update={"cache_dir": cache}))
        engine.begin()
        data = prepare(engine.config, engine.tokenizer)
        base = engine.describe(engine.original())
        model = engine.attach(engine.load(base), base)
        training = engine.training(data, folder.output / "trainer")
        started = perf_counter()
        LOOPS[engine.method.loop](model, training, events.write)()
        seconds = perf_counter() - started
    (folder.path / "bare.txt").write_text(str(seconds))
