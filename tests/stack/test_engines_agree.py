"""PyTorch's engine and MLX's, directly: the same functions on the same rows and adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunematrix.configuration import Configuration
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.adapters import Format, convert
from tunematrix.stack.engines import mlx, torch
from tunematrix.stack.engines.common import Engine, Sampling
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
    both = torch.Engine(_config("cpu", cache)), mlx.Engine(_config("mlx", cache))
    for engine in both:
        engine.begin()
    return both


def _config(backend: str, cache: str) -> Configuration:
    groups = read_groups([shipped_configs()])
    data = {"test_id": "agree", "recipe": "parity", "matrix": {"backend": [backend]}}
    (cell,), _ = expand(Spec.model_validate(data), groups, [backend])
    return compose(cell, groups, cache)


def test_logits_gradients_and_losses(engines: tuple[Engine, Engine]) -> None:
    """One engine is the other's truth."""
    one, other = engines
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


def test_losses_are_over_the_same_tokens(engines: tuple[Engine, Engine]) -> None:
    """Both count the same tokens of rows of unequal lengths, and say the same of them."""
    rows = truth.probe(engines[0].tokenizer)
    (loss, tokens), (there, tokens_there) = (e.loss(e.original(), rows) for e in engines)
    assert tokens == tokens_there
    assert loss == pytest.approx(there, rel=LOGITS)


def test_bases_are_described_alike(engines: tuple[Engine, Engine]) -> None:
    """Layers, their shapes and all parameters carry the same names, in whatever order."""
    base, other = (engine.describe(engine.original()) for engine in engines)
    shapes = (dict(zip(one.linears, one.shapes, strict=True)) for one in (base, other))
    assert next(shapes) == next(shapes)
    assert set(base.parameters) == set(other.parameters)


def test_likeliest_tokens_need_no_cache(engines: tuple[Engine, Engine]) -> None:
    """With a cache, without it, and in the other engine, the likeliest tokens are the same ones."""
    prompt = list(engines[0].tokenizer("Once upon a time")["input_ids"])
    greedy = [Sampling(most=24, temperature=0.0, seed=0, cache=cache) for cache in (True, False)]
    texts = [
        one.generate(one.original(), [prompt, prompt], way) for one in engines for way in greedy
    ]
    assert texts == [[texts[0][0]] * 2] * 4


def test_drawn_tokens_follow_their_seed(engines: tuple[Engine, Engine]) -> None:
    """MLX draws the same again under one seed, and others under another."""
    _, ours = engines
    prompt = list(ours.tokenizer("Once upon a time")["input_ids"])
    drawn = [Sampling(most=24, temperature=2.0, seed=seed, cache=True) for seed in (1, 1, 2)]
    first, again, other = (ours.generate(ours.original(), [prompt], way) for way in drawn)
    assert first == again != other


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
