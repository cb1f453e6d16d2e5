"""The training phase of a cell without any meter, timed inside its own process."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.stack.engines import sft_trainer
from tunematrix.stack.recipes import sft


def run(run_dir: str) -> None:
    """Build the cell's model, train it with the same trainer, and write the seconds down."""
    folder = RunDir(Path(run_dir))
    config = folder.read_cell().config
    with EventLog(folder.events) as events:
        parts = sft.assemble(config, events)
        reference = sft.measure_reference(parts, events)
        model = parts.quantizer.load(
            parts.checkpoint, list(reference.base.linears), parts.placement
        )
        attached = sft.attach(parts, model, reference.base)
        training = sft.describe_training(parts, folder.output / "trainer")
        started = perf_counter()
        sft_trainer.build(attached, training, events.write).train()
        seconds = perf_counter() - started
    (folder.path / "bare.txt").write_text(str(seconds))
