"""What small effects are measured by, without a model: bits, shares, scales by layer, heads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tunematrix.configuration import adapters
from tunematrix.stack.recipes.heads import has_own_head
from tunematrix.stack.yardsticks import fineness
from tunematrix.stack.yardsticks.shares import Weights, share

LAYER = "base_model.model.model.layers.1.mlp.down_proj"
DRAWS = np.random.default_rng(0)


def _drawn(*shape: int) -> Weights:
    return DRAWS.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("kept", "bits"), [(8, 8), (11, 11), (20, 20), (24, 24)])
def test_bits_that_numbers_need(kept: int, bits: int) -> None:
    """Those that a cast to so many has left, in all of them together."""
    significands, exponents = np.frexp(_drawn(200).astype(np.float64))
    rounded = np.ldexp(np.round(significands * 2**kept) / 2**kept, exponents)
    assert fineness.bits(rounded) == bits


def test_whole_numbers_need_few_bits_and_constants_none() -> None:
    """A scale of 1 in each layer says nothing; a nan is no number."""
    assert fineness.bits(np.arange(1.0, 17.0)) == 4
    assert fineness.bits(np.array([3.0, 5.0, 6.0, 7.0, math.nan])) == 3
    assert fineness.bits(np.ones(14)) is None


@pytest.mark.parametrize("times", [0.0, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
def test_the_share_of_an_adapter(times: float, size: float) -> None:
    """Found however small the change is, and without the weight's own part."""
    plain, change = _drawn(64, 48), np.float32(size) * _drawn(64, 48)
    (found,) = share("q_proj", plain + np.float32(times) * change, plain, plain + change)
    assert found.share == pytest.approx(times, abs=2e-3)


def test_the_share_where_rounding_took_it_back() -> None:
    """Levels that are farther apart than the change is large keep nothing of it."""
    plain = np.round(4 * _drawn(64, 48)) / np.float32(4)
    due = plain + np.float32(0.01) * _drawn(64, 48)
    stored = (np.round(4 * due) / 4).astype(np.float32)
    (found,) = share("q_proj", stored, plain, due)
    assert abs(found.share) < 6 * found.spread
    assert list(share("q_proj", plain, plain, plain)) == []


@pytest.mark.parametrize(
    ("settings", "rank", "factor"),
    [
        ({}, 8, 2.0),
        ({"rank_pattern": {"down_proj": 4}}, 4, 4.0),
        ({"rank_pattern": {"own_proj": 4}}, 8, 2.0),
        ({"rank_pattern": {r".*layers\.1\..*": 2, "down_proj": 4}}, 2, 8.0),
        ({"alpha_pattern": {"mlp.down_proj": 32}}, 8, 4.0),
        ({"alpha_pattern": {"q_proj": 32}}, 8, 2.0),
        ({"rank_pattern": {"down_proj": 4}, "use_rslora": True}, 4, 8.0),
    ],
)
def test_ranks_and_factors_by_layer(settings: dict[str, object], rank: int, factor: float) -> None:
    """The first pattern that is a layer's name, or its end at a dot, decides."""
    whole = {"rank": 8, "alpha": 16, **settings}
    assert adapters.rank(whole, LAYER) == rank
    assert adapters.factor(whole, LAYER) == factor


def test_patterns_that_are_no_layers() -> None:
    """Nobody would notice that they do nothing."""
    settings = {"rank_pattern": {"proj": 4, "down_proj": 2}, "alpha_pattern": {"w_proj": 8}}
    found = adapters.idle_patterns(settings, [LAYER])
    assert found == ("rank_pattern.proj", "alpha_pattern.w_proj")
    assert adapters.idle_patterns({"rank_pattern": None}, [LAYER]) == ()


def test_a_second_adapter_that_takes_part() -> None:
    """One at rest doesn't."""
    taking = ("none", "resting", "frozen", "trained", None)
    assert [adapters.has_company({"beside": one}) for one in taking] == [
        False, False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("head", "own"), [("equal", False), ("other", True), ("none", False)])
def test_a_head_of_its_own(tmp_path: Path, head: str, own: bool) -> None:
    """Only a head that differs from the embeddings may be untied from them."""
    embeddings = _drawn(6, 4)
    heads = {"equal": embeddings.copy(), "other": embeddings + 1}
    tensors = {"model.embed_tokens.weight": embeddings}
    save_file(tensors, tmp_path / "model-1.safetensors")
    if head in heads:
        save_file({"lm_head.weight": heads[head]}, tmp_path / "model-2.safetensors")
    assert has_own_head(tmp_path) is own
