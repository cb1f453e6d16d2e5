"""What cells share of an unquantized original is to the bit what each would have measured."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from tunematrix.configuration import Configuration
from tunematrix.stack.engines.common import Engine
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.engines.mlx import Engine as MlxEngine
from tunematrix.stack.engines.torch import Engine as TorchEngine
from tunematrix.stack.recipes.data import prepare
from tunematrix.stack.recipes.reference import Reference, measure, measure_once
from tunematrix.stack.recipes.sft import evaluate

if TYPE_CHECKING:
    from tests.stack.conftest import ComposeSmall

Opened = tuple[Configuration, Engine, Data]
Open = Callable[..., Opened]
BACKENDS = ("cpu", "mlx")
ENGINES: dict[str, Callable[[Configuration], Engine]] = {"cpu": TorchEngine, "mlx": MlxEngine}


@pytest.fixture
def begun(compose_small: ComposeSmall, tmp_path: Path) -> Open:
    """Compose a cell that shares references, and take it as far as its data."""

    def begin(backend: str, **settings: object) -> Opened:
        _, config = compose_small(backend=backend, **settings)
        config = config.model_copy(update={"references": str(tmp_path / "shelf")})
        engine = ENGINES[backend](config)
        engine.begin()
        return config, engine, prepare(config, engine.tokenizer)

    return begin


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shared_reference_is_what_was_measured(begun: Open, backend: str) -> None:
    """Score, shapes and logits come back as they were put there."""
    config, engine, data = begun(backend)
    own = measure(engine, data, evaluate)
    put, taken = (measure_once(config, engine, data, evaluate) for _ in range(2))
    for other in (put, taken):
        assert (other.base, other.score, other.probe) == (own.base, own.score, own.probe)
        np.testing.assert_array_equal(other.logits, own.logits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_measuring_draws_no_random_number(begun: Open, backend: str) -> None:
    """A cell that measures and one that doesn't go on with the same random numbers."""
    _, engine, data = begun(backend)
    before = _random_state()
    measure(engine, data, evaluate)
    assert _random_state() == before


@pytest.mark.each_time(5)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"train__seed": 7},
        {"meters__held_out_rows": 3},
        {"data": "chat"},
        {"precision": "bf16"},
        {"train__threads": 3},
    ],
    ids=str,
)
def test_what_an_original_depends_on_isnt_shared(
    begun: Open, tmp_path: Path, backend: str, settings: dict[str, object]
) -> None:
    """Other rows, seeds, precisions and threads are put on a place of their own."""
    for one in ({}, settings):
        measure_once(*begun(backend, **one), evaluate)
    assert len(list((tmp_path / "shelf").iterdir())) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_comes_later_is_shared(begun: Open, tmp_path: Path, backend: str) -> None:
    """Methods, optimizers, rates and quantizers have one original, loaded once."""
    quantizer = "hqq-int4" if backend == "cpu" else "mlx-int4"
    measure_once(*begun(backend), evaluate)
    others: list[dict[str, Any]] = [
        {"method": "dora"}, {"optimizer": "sgd"}, {"train__learning_rate": 0.1},
        {"quantizer": quantizer}, {"scheduler": "cosine", "train__max_steps": 5},
    ]  # fmt: skip
    for other in others:
        config, engine, data = begun(backend, **other)
        measure_once(config, _without_original(engine), data, evaluate)
    assert len(list((tmp_path / "shelf").iterdir())) == 1


def test_another_checkpoint_isnt_taken_for_this_one(begun: Open, tmp_path: Path) -> None:
    """A checkpoint that has changed meanwhile is another one, under whatever name."""
    config, engine, data = begun("cpu")
    engine.checkpoint = _copied(engine.checkpoint, tmp_path / "mine")
    measure_once(config, engine, data, evaluate)
    weights = engine.checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    measure_once(config, engine, data, evaluate)
    assert len(list((tmp_path / "shelf").iterdir())) == 2


def test_cells_of_memory_measure_their_own(begun: Open, tmp_path: Path) -> None:
    """Where memory is weighed, nothing is left out that others have in memory."""
    config, engine, data = begun("cpu", meters__allocator=True)
    assert isinstance(measure_once(config, engine, data, evaluate), Reference)
    assert not (tmp_path / "shelf").exists()


def _copied(folder: Path, place: Path) -> Path:
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def _without_original(engine: Engine) -> Engine:
    def refuse() -> object:
        raise AssertionError("the original was loaded again")

    engine.original = refuse  # type: ignore[method-assign]
    return engine


def _random_state() -> tuple[bytes, bytes, tuple[Any, ...]]:
    state = mx.random.state[0]
    numpys = pickle.dumps(np.random.get_state())
    return torch.get_rng_state().numpy().tobytes(), numpys, tuple(np.array(state).tolist())
