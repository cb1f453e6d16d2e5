from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tunematrix.checks.differences import Side
from tunematrix.checks.relations import agree, undeclared
from tunematrix.checks.verdict import Verdict
from tunematrix.spec.relation import Relation, is_relations

ARMS = {"one": {}, "two": {"train.seed": 1}, "three": {"train.seed": 2}}
FIRST = np.array([1.0, -2.0, 4.0])
NOTHING: Mapping[str, float] = {}


def relation(*compare: str, **fields: Any) -> Relation:
    """A relation of three arms."""
    return Relation.model_validate({"arms": ARMS, "compare": compare, **fields})


def side(name: str, scale: float = 1.0, /, **figures: float) -> Side:
    """An arm whose gradients are those of the first, scaled."""
    config = {"train": {"seed": 0, "rate": 0.1}, "method": {"name": "lora", "rank": 8}}
    return Side(name, config, {"gradient/0/w": FIRST * scale}, "trained", {}, figures)


def judged(
    claim: Relation, *sides: Side, table: Mapping[str, float] = NOTHING
) -> dict[str, Verdict]:
    """Judge it: name to verdict."""
    return {one.name: one for one in agree(claim, sides, table.get)}


def three(scale: float, **figures: float) -> list[Side]:
    """Three arms, of which the middle one is off."""
    return [side("one", 1.0, **figures), side("two", scale), side("three")]


def test_bounds_of_the_table() -> None:
    """Ten times what honest runs have shown, for the largest and the mean apart."""
    table = {"same_gradients": 2e-3, "same_gradients_mean": 2e-4}
    found = judged(relation("gradients"), *three(1.01), table=table)
    largest, mean = found["same_gradients"], found["same_gradients_mean"]
    assert (largest.outcome, largest.bound) == ("passed", "<= 0.02")
    assert (mean.outcome, mean.bound) == ("failed", "<= 0.002")
    assert largest.measured == pytest.approx(0.01) == mean.measured
    assert largest.message == (
        "0.01 of the tensor's largest, largest between one and two, at w, gradient of step 0; "
        "0.02 is allowed"
    )


def test_bounds_of_theory_go_before_the_table() -> None:
    """What follows from theory is not moved by what was recorded, and zero is a bound."""
    table = {"same_gradients": 1.0, "same_gradients_mean": 1.0}
    found = judged(relation("gradients", tolerance={"gradients": 0.0}), *three(1.0), table=table)
    assert {one.outcome for one in found.values()} == {"passed"}
    found = judged(
        relation("gradients", tolerance={"gradients": 0.0}), *three(1 + 1e-12), table=table
    )
    assert {one.outcome for one in found.values()} == {"failed"}


def test_rounding_of_the_quantizer() -> None:
    """So many times its own error of the logits is allowed on top."""
    claim = relation("gradients", tolerance={"gradients": 0.001}, of_rounding=0.5)
    found = judged(claim, *three(1.05, logit_error=0.1))["same_gradients"]
    assert (found.outcome, found.bound) == ("passed", "<= 0.051")
    assert judged(claim, *three(1.06, logit_error=0.1))["same_gradients"].outcome == "failed"
    assert judged(claim, *three(1.05))["same_gradients"].bound == "<= 0.001"


def test_nothing_is_recorded() -> None:
    """It isn't judged: a warning says what was measured."""
    found = judged(relation("gradients"), *three(1.01), table={"same_gradients": 0.1})
    assert found["same_gradients"].outcome == "passed"
    mean = found["same_gradients_mean"]
    assert (mean.outcome, mean.bound) == ("warned", "none recorded")


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_what_is_not_finite_fails(scale: float) -> None:
    """By any bound, and though it stands in the middle."""
    claim = relation("gradients", tolerance={"gradients": 1e9})
    assert {one.outcome for one in judged(claim, *three(scale)).values()} == {"failed"}


def test_an_arm_without_tensors() -> None:
    """Nothing is equal to nothing."""
    claim = relation("gradients", "updates", tolerance={"gradients": 1, "updates": 1})
    found = judged(claim, *three(1.0))
    assert found["same_gradients"].outcome == "passed"
    assert found["same_updates"].outcome == "failed"
    assert found["same_updates"].measured is None
    assert "updates in arm one, two, three" in found["same_updates"].message


def shares(**ranges: dict[str, float]) -> Relation:
    """A relation of the arms' stored bytes."""
    return relation(ratio={"stored_mb": ranges})


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        ({"max": 0.6}, "passed"),
        ({"max": 0.4}, "failed"),
        ({"min": 0.4}, "passed"),
        ({"min": 0.6}, "failed"),
        ({"min": 0.2, "max": 0.25}, "failed"),
    ],
)
def test_ratios(ratio: dict[str, float], outcome: str) -> None:
    """A share of the first arm's is held to its own bounds."""
    sides = [side("one", stored_mb=10.0), side("two", stored_mb=5.0), side("three", stored_mb=1.0)]
    found = judged(shares(two=ratio), *sides)["ratio_stored_mb"]
    assert (found.outcome, found.measured, found.unit) == (outcome, 0.5, "times")
    assert found.message == "stored_mb of arm two is 0.5 times one's, 10 MB"


@pytest.mark.parametrize(("two", "three", "worst"), [(0.5, 0.7, 0.9), (0.2, 0.9, 0.1)])
def test_the_worst_ratio_is_told(two: float, three: float, worst: float) -> None:
    """Each is held against its own bounds; what is farthest outside decides."""
    sides = [side("one", stored_mb=10.0), side("two", stored_mb=1.0), side("three", stored_mb=9.0)]
    claim = shares(two={"min": two - 0.4 if worst > 0.5 else two}, three={"max": three})
    assert judged(claim, *sides)["ratio_stored_mb"].measured == worst


@pytest.mark.parametrize("figures", [{}, {"stored_mb": 0.0}])
@pytest.mark.parametrize("position", [0, 1])
def test_figures_that_were_not_measured(figures: dict[str, float], position: int) -> None:
    """A figure of 0 is none, on either side of a share."""
    sides = [side("one", stored_mb=10.0), side("two", stored_mb=1.0), side("three", stored_mb=1.0)]
    sides[position] = side(("one", "two")[position], **figures)
    found = judged(shares(two={"max": 2}), *sides)["ratio_stored_mb"]
    assert (found.outcome, found.measured) == ("failed", None)
    assert f"stored_mb in arm {('one', 'two')[position]}" in found.message


def test_settings_that_nobody_named() -> None:
    """All in which any arm differs, apart from the settings and axes that arms vary."""
    first, second = side("one"), side("two")
    config = {"train": {"seed": 1, "rate": 0.2}, "method": {"name": "full"}, "more": {"x": 1}}
    other = Side("three", config, {}, "trained", {}, {})
    assert undeclared([first, second], ()) == ()
    found = undeclared([first, second, other], ())
    assert found == ("train.seed", "train.rate", "method.name", "method.rank", "more.x")
    assert undeclared([first, other], ["train.seed", "method"]) == ("train.rate", "more.x")
    assert undeclared([first, other], ["tra", "met", "more.x", "train", "method.name"]) == (
        "method.rank",
    )


def test_names_of_checks() -> None:
    """They tell what a known failure is about."""
    assert is_relations("same_gradients_mean") and is_relations("ratio_stored_mb")
    assert not is_relations("memory_stored") and not is_relations("")
