"""Logits on the probe that a cell keeps where its meters ask for whole tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.common import Base, Engine, Floats
from tunematrix.stack.engines.examples import Example


def keep_stages(config: Mapping[str, Any], events: EventLog, **stages: Floats) -> None:
    """Keep the logits that stages ended with, where relations or loaders are to be held to them."""
    meters = config["meters"]
    if meters["tensors"] or meters["loaders"]:
        for stage, logits in stages.items():
            events.keep(f"logits/{stage}", logits)


def keep_dequantized(
    config: Mapping[str, Any], events: EventLog, engine: Engine, base: Base,
    probe: Sequence[Example], quantized: Floats,
) -> None:  # fmt: skip
    """Keep a quantized base's logits beside those of a plain model with the same weights."""
    if config["meters"]["dequantized"]:
        with events.phase("dequantized"):
            events.keep("logits/quantized", quantized)
            events.keep("logits/dequantized", engine.logits(engine.dequantized(base), probe))


def keep_ways(
    config: Mapping[str, Any], events: EventLog, engine: Engine, base: Base,
    probe: Sequence[Example], saved: Path,
) -> None:  # fmt: skip
    """Load what was saved in every way that users do, and keep what each one gives."""
    if config["meters"]["loaders"]:
        with events.phase("loaders"):
            ways = engine.ways(base, saved, saved.with_name("merged-again"))
            for stage, load in ways.items():
                events.keep(f"logits/{stage}", engine.logits(load(), probe))
