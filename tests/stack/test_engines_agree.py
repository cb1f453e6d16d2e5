"""PyTorch's engine and MLX's, directly: the same functions on the same rows and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.adapters import Format, convert
from tunematrix.stack.engines import mlx, torch
from tunematrix.stack.engines.common import Engine
from tunematrix.stack.recipes import parity
from tunematrix.stack.toyworld import truth
from tunematrix.stack.toyworld.truth import Truth

# Of the largest logit: 1.5e-6 when measured, on either model (torch 2.13, MLX 0.32.4).
LOGITS = 1e-5
# As in configs/specs/parity.yaml and transfer.yaml: each is that far from the truth at most.
GRADIENTS, TRACE, ADAPTERS = 1e-4, 5e-4, 1e-4
STEPS = 3


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    """Both, in float32 on the CPU or whatever MLX computes on here."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return (torch.Engine(_config("cpu", cache)), mlx.Engine(_config("mlx", cache)))


def _config(backend: str, cache: str) -> dict[str, Any]:
    groups = read_groups([shipped_configs()])
    data = {"test_id": "agree", "recipe": "parity", "matrix": {"backend": [backend]}}
    (cell,), _ = expand(Spec.model_validate(data), groups, [backend])
    return {**compose(cell, groups.roots), "cache_dir": cache}


def test_logits_gradients_and_losses(engines: tuple[Engine, Engine]) -> None:
    """One engine is the other's truth."""
    one, other = engines
    for engine in engines:
        engine.begin()
    probe = truth.probe(one.tokenizer)
    batches = truth.batches(one.tokenizer)[:STEPS]
    models = one.original(), other.original()
    gradients = one.gradients(models[0], probe)
    recorded = Truth(
        logits=one.logits(models[0], probe),
        sketches={name: truth.sketch(gradient) for name, gradient in gradients.items()},
        norms={},
        losses=one.descend(models[0], batches, truth.RATE),
    )
    largest = float(np.abs(recorded.logits).max())
    assert parity.of_logits(other.logits(models[1], probe), recorded).difference < LOGITS * largest
    assert parity.of_gradients(other.gradients(models[1], probe), recorded).difference < GRADIENTS
    losses = other.descend(models[1], batches, truth.RATE)
    assert parity.of_trace(losses, recorded).difference < TRACE


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("source", ["peft", "mlx-lm"])
def test_adapters_there_and_back(
    engines: tuple[Engine, Engine], tmp_path: Path, source: Format, method: str
) -> None:
    """Each engine's adapter, converted, gives in the other what it gave in its own."""
    recorded = {adapter.source: adapter for adapter in truth.adapters(method)}[source]
    other = engines[1] if source == "peft" else engines[0]
    convert(recorded.folder, tmp_path)
    restored = other.restore(other.describe(other.original()), tmp_path)
    logits = other.logits(restored, truth.short_probe(other.tokenizer))
    assert np.abs(logits - recorded.logits).max() < ADAPTERS
