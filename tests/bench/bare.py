"""The training phase of a cell without any meter, timed inside its own process."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.stack.recipes import sft


def run(run_dir: str) -> None:
    """Build the cell's model, train it in the same loop, and write the seconds to bare.txt."""
    folder = RunDir(Path(run_dir))
    config = folder.read_cell().config
    with EventLog(folder.events) as events:
        setup = sft.set_up(config, events)
        base = sft.measure_reference(setup, events).base
        model = sft.attach(setup, setup.load(base), base)
        training = sft.describe_training(setup, folder.output / "trainer")
        started = perf_counter()
        sft.LOOPS[setup.method.loop](model, training, events.write)()
        seconds = perf_counter() - started
    (folder.path / "bare.txt").write_text(str(seconds))
