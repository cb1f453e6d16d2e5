from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.unit.honest import CONFIG

from tunematrix.checks.differences import SMALL, Side, difference, idle_step, values
from tunematrix.configuration import Configuration
from tunematrix.evidence.tensors import Array, TensorKey, Tensors
from tunematrix.spec.relation import Quantity

key = TensorKey.from_text
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 16)).astype(np.float32)
NORM = RANDOM.normal(size=16).astype(np.float32)
GRADIENTS: dict[TensorKey, Array] = {
    key("gradient/0/w"): WEIGHT,
    key("gradient/0/n"): NORM,
    key("gradient/1/w"): WEIGHT / 2,
}


def side(tensors: Tensors, **fields: Any) -> Side:
    """What an arm brings."""
    fields = {"stage": "trained", "losses": {}, "figures": {}, **fields}
    return Side("x", Configuration.model_validate(CONFIG), tensors, **fields)


def test_nothing_differs() -> None:
    """The same tensors are at no distance, whatever they hold."""
    found = difference(GRADIENTS, dict(GRADIENTS))
    assert (found.largest, found.mean) == (0.0, 0.0)
    zeros = {key("gradient/0/w"): np.zeros(3)}
    assert difference(zeros, zeros).largest == 0.0


@pytest.mark.parametrize("share", [0.01, -0.01, 3.0])
def test_a_scale_is_told_exactly(share: float) -> None:
    """A gradient that is 1 % too large is off by 0.01, by the largest and on the mean."""
    scaled = {name: tensor * np.float32(1 + share) for name, tensor in GRADIENTS.items()}
    found = difference(GRADIENTS, scaled)
    assert found.largest == pytest.approx(abs(share), rel=1e-4)
    assert found.mean == pytest.approx(abs(share), rel=1e-4)


def test_the_worst_tensor_is_named() -> None:
    """By its own size, not by that of the largest; the mean is that of its whole step."""
    other = GRADIENTS | {key("gradient/1/w"): WEIGHT / 2 * np.float32(1.5)}
    found = difference(GRADIENTS, other)
    assert found.largest == pytest.approx(0.5, rel=1e-5)
    assert found.mean == pytest.approx(0.5, rel=1e-5)
    assert found.place == "w, gradient of step 1"


def test_a_difference_in_one_value() -> None:
    """The largest sees it, the mean hardly does."""
    odd = WEIGHT.copy()
    odd[3, 5] += np.abs(WEIGHT).max() / 4
    found = difference(GRADIENTS, GRADIENTS | {key("gradient/0/w"): odd})
    assert found.largest == pytest.approx(0.25, rel=1e-5)
    assert 0 < found.mean < 0.01


def test_a_small_bias_everywhere() -> None:
    """The mean sees it as well as the largest does."""
    signs = np.sign(WEIGHT)
    biased = GRADIENTS | {key("gradient/1/w"): (WEIGHT / 2 + signs * np.float32(0.01))}
    found = difference(GRADIENTS, biased)
    assert found.mean == pytest.approx(0.01 / (np.abs(WEIGHT) / 2).mean(), rel=1e-3)
    assert found.mean > found.largest


def test_tiny_tensors_are_held_to_their_step() -> None:
    """What is nearly zero differs from itself by as much as it is large."""
    big, dust = np.ones(4), np.full(4, 1e-9)
    first = {key("gradient/0/big"): big, key("gradient/0/dust"): dust}
    found = difference(first, {key("gradient/0/big"): big, key("gradient/0/dust"): -dust})
    assert found.largest == pytest.approx(2e-9 / SMALL)
    # In a step of its own it stands for itself.
    alone = difference({key("gradient/0/dust"): dust}, {key("gradient/0/dust"): -dust})
    assert alone.largest == pytest.approx(2.0)


def test_state_is_held_to_values_of_its_key() -> None:
    """Second moments are tiny beside a count of steps, and matter as much."""
    first = {
        key("state/w/step"): np.array(40.0),
        key("state/w/exp_avg"): np.full(3, 1e-4),
        key("state/w/exp_avg_sq"): np.full(3, 1e-9),
    }
    for part in ("exp_avg", "exp_avg_sq", "step"):
        name = key(f"state/w/{part}")
        found = difference(first, {**first, name: first[name] * 1.5})
        assert found.largest == pytest.approx(0.5)
        assert found.place == f"state w {part}"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("both", [True, False])
def test_what_is_not_finite_never_agrees(broken: float, both: bool) -> None:
    """On one side or, in the very same place, on both; wherever else they agree."""
    odd = NORM.copy()
    odd[2] = broken
    other = GRADIENTS | {key("gradient/0/n"): odd}
    for found in (difference(other if both else GRADIENTS, other), difference(other, GRADIENTS)):
        assert not math.isfinite(found.largest)
        assert not math.isfinite(found.mean)
        assert found.place == "n, gradient of step 0"


def test_a_nan_after_something_finite() -> None:
    """It is the worst, in whatever step it comes."""
    odd = GRADIENTS | {key("gradient/0/w"): WEIGHT * 2, key("gradient/1/w"): WEIGHT * np.nan}
    assert math.isnan(difference(GRADIENTS, odd).largest)
    assert math.isnan(difference(GRADIENTS, odd).mean)


def test_tensors_of_other_shapes() -> None:
    """They are infinitely far from each other, though numpy could stretch one."""
    found = difference(GRADIENTS, GRADIENTS | {key("gradient/0/n"): NORM[:1]})
    assert (found.largest, found.mean) == (math.inf, math.inf)
    assert found.place == "n, gradient of step 0"


@pytest.mark.parametrize("turned", [True, False])
def test_tensors_that_are_missing(turned: bool) -> None:
    """On either side."""
    less = {name: tensor for name, tensor in GRADIENTS.items() if name != key("gradient/1/w")}
    found = difference(GRADIENTS, less) if turned else difference(less, GRADIENTS)
    assert found.largest == found.mean == math.inf
    assert found.place == "gradient/1/w, on one side alone"


def test_something_where_nothing_was() -> None:
    """A gradient that was zero has no size to be relative to."""
    zeros, ones = ({key("gradient/0/w"): one} for one in (np.zeros(3), np.ones(3)))
    assert difference(zeros, ones).largest == math.inf
    assert (
        difference({key("gradient/0/w"): np.zeros(0)}, {key("gradient/0/w"): np.zeros(0)}).largest
        == 0
    )


def test_integers() -> None:
    """States of generators are compared as numbers, without overflow."""
    first = {key("random/torch"): np.array([0, 255, 7], np.uint8)}
    assert difference(first, first).largest == 0
    other = {key("random/torch"): np.array([255, 255, 7], np.uint8)}
    assert difference(first, other).largest == 1.0
    assert difference(first, other).place == "random torch"


KEPT = {
    key("gradient/0/w"): WEIGHT,
    key("parameter/0/w"): WEIGHT,
    key("parameter/1/w"): WEIGHT + 1,
    key("parameter/2/w"): WEIGHT + 3,
    key("parameter/10/w"): WEIGHT + 9,
    key("state/w/exp_avg"): WEIGHT,
    key("random/numpy"): NORM,
    key("logits/trained"): WEIGHT,
    key("logits/merged"): WEIGHT * 2,
}


@pytest.mark.parametrize(
    ("quantity", "names"),
    [
        ("gradients", {key("gradient/0/w")}),
        ("updates", {key("update/0/w"), key("update/1/w"), key("update/2/w")}),
        ("parameters", {key("parameter/10/w")}),
        ("state", {key("state/w/exp_avg"), key("random/numpy")}),
        ("losses", {key("loss/1/"), key("loss/2/")}),
        ("logits", {key("logits/")}),
    ],
)
def test_each_quantity(quantity: Quantity, names: set[TensorKey]) -> None:
    """Its own tensors and no others; where none were kept, there are none."""
    full = side(KEPT, losses={1: 5.0, 2: 4.0}, stage="merged")
    assert values(quantity, full).keys() == names
    assert values(quantity, side({})) == {}


def test_state_without_moments() -> None:
    """The states of generators aren't what an optimizer keeps, and don't vouch for it."""
    assert values("state", side({key("random/numpy"): NORM, key("parameter/0/w"): WEIGHT})) == {}


@pytest.mark.parametrize(
    ("changed", "idle"),
    [
        ({}, ""),
        ({key("gradient/1/w"): WEIGHT * 0}, "step 1"),
        ({key("gradient/0/w"): WEIGHT * 0}, ""),
        ({key("gradient/0/w"): WEIGHT * 0, key("gradient/0/n"): -NORM * 0}, "step 0"),
        ({key("gradient/10/w"): WEIGHT * 0}, "step 10"),
        ({key("gradient/1/w"): WEIGHT * 0, key("gradient/1/n"): np.zeros(0)}, "step 1"),
        ({key("gradient/1/w"): -np.abs(WEIGHT) * np.float32(1e-30)}, ""),
        ({key("gradient/1/w"): WEIGHT * np.nan}, ""),
        ({key("gradient/1/w"): WEIGHT * 0, key("gradient/1/a"): WEIGHT * np.nan}, ""),
        ({key("gradient/1/w"): WEIGHT * np.nan, key("gradient/1/z"): WEIGHT * 0}, ""),
    ],
)
def test_idle_steps(changed: Tensors, idle: str) -> None:
    """All tensors of a step are 0; what is small, negative or no number isn't."""
    assert idle_step({**GRADIENTS, **changed}) == idle


def test_updates_are_differences() -> None:
    """From each step to the next; a parameter that is gone leaves nothing finite."""
    found = values("updates", side(KEPT))
    np.testing.assert_allclose(found[key("update/1/w")], 2, rtol=1e-6)
    assert np.isnan(found[key("update/2/w")]).all()


def test_logits_of_a_stage() -> None:
    """An arm brings those that its spec names."""
    found = values("logits", side(KEPT, stage="merged"))
    assert np.array_equal(found[key("logits/")], WEIGHT * 2)
    assert difference(found, {key("logits/"): WEIGHT}).place == "logits"
    assert values("logits", side(KEPT, stage="reloaded")) == {}


def test_losses() -> None:
    """Relative to their own size, and the step is named."""
    first, other = (side({}, losses={1: 5.0, 2: second}) for second in (4.0, 4.4))
    found = difference(values("losses", first), values("losses", other))
    assert found.largest == pytest.approx(0.1)
    assert found.place == "loss, step 2"
