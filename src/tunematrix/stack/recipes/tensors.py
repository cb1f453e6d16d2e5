"""Logits on the probe that a cell keeps where its meters ask for whole tensors."""

from __future__ import annotations

from tunematrix.evidence.tensors import TensorKey
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.recipes.steps import State


def keep_stages(state: State, **stages: Floats) -> None:
    """Keep the logits that stages ended with, where relations or loaders are to be held to them."""
    meters = state.config.meters
    if meters.tensors or meters.loaders:
        for stage, logits in stages.items():
            state.events.keep(TensorKey("logits", name=stage), logits)


def keep_dequantized(state: State) -> None:
    """Keep a quantized base's logits beside those of a plain model with the same weights."""
    engine = state.engine
    state.events.keep(TensorKey("logits", name="quantized"), state.before)
    plain = engine.logits(engine.dequantized(state.base), state.probe)
    state.events.keep(TensorKey("logits", name="dequantized"), plain)


def keep_ways(state: State) -> None:
    """Load what was saved in every way that users do, and keep what each one gives."""
    engine, saved = state.engine, state.saved
    ways = engine.ways(state.base, saved, saved.with_name("merged-again"))
    for way, load in ways.items():
        if way == "merged" and state.config.meters.merge:
            continue  # another step has kept those
        state.events.keep(TensorKey("logits", name=way), engine.logits(load(), state.probe))
