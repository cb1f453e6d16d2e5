"""Text from the real engine, honest and sabotaged: each fault fails the check that it is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GenerationMixin
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tunematrix.faults.patching import replaced
from tunematrix.stack.recipes import generate

if TYPE_CHECKING:
    from tests.stack.conftest import RunCell

CELL = "generate[cpu-none]"


def _asking_for(**settings: Any) -> AbstractContextManager[None]:
    """Generate with other settings than asked for, unless the text is greedy anyway."""

    def wrap(original: Any) -> Any:
        def call(model: Any, **asked: Any) -> Any:
            return original(model, **{**asked, **(settings if asked["do_sample"] else {})})

        return call

    return replaced(GenerationMixin, "generate", wrap)


def _penalised() -> AbstractContextManager[None]:
    """Lower the scores of tokens that a text has already, a little, as some presets do."""
    return _asking_for(repetition_penalty=1.02)


def _cached_position_off_by_one() -> AbstractContextManager[None]:
    """Turn each token behind cached keys one position too far."""

    def wrap(original: Any) -> Any:
        def forward(layer: Any, x: Any, position_ids: Any) -> Any:
            return original(layer, x, position_ids + int(position_ids.shape[-1] == 1))

        return forward

    return replaced(LlamaRotaryEmbedding, "forward", wrap)


PLANTED: dict[str, tuple[Callable[[], AbstractContextManager[None]], set[str]]] = {
    "cached position off by one": (_cached_position_off_by_one, {"cache"}),
    "temperature ignored": (
        lambda: _asking_for(do_sample=False, temperature=None, top_k=None, top_p=None),
        {"seeded", "sampled_nats"},
    ),
    "temperature 1 % higher": (
        lambda: _asking_for(temperature=1.01 * generate.OTHER_TEMPERATURE),
        {"drawn_scores"},
    ),
    "a slight penalty": (_penalised, {"drawn_scores"}),
    "temperature doubled": (lambda: _asking_for(temperature=2.0), {"grammatical"}),
    "top-k 1 left on": (lambda: _asking_for(top_k=1), {"seeded", "sampled_nats"}),
    "top-k 5 left on": (lambda: _asking_for(top_k=5), {"sampled_nats"}),
    "seed ignored": (lambda: replaced(torch, "manual_seed", lambda _: lambda _: None), {"seeded"}),
    "seed fixed": (lambda: replaced(torch, "manual_seed", lambda to: lambda _: to(0)), {"seeded"}),
    "wrong dialect": (lambda: replaced(generate, "DIALECT", lambda _: "B"), {"grammatical"}),
}


def test_honest_text_passes(run_here: RunCell) -> None:
    """Every check speaks and none fails."""
    judged = run_here(CELL)
    assert judged.failed == set()
    assert {
        "device",
        "stored_bits",
        "grammatical",
        "cache",
        "seeded",
        "sampled_nats",
        "drawn_scores",
    } <= set(judged.verdicts)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("fault", PLANTED)
def test_fault_in_generation_is_named(run_here: RunCell, fault: str) -> None:
    """It ends as an honest run does, and the check that it is for fails."""
    plant, checks = PLANTED[fault]
    with plant():
        judged = run_here(CELL)
    assert checks <= judged.failed
