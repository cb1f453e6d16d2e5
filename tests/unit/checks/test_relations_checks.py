from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.honest import CONFIG

from tunematrix.checks.differences import Side
from tunematrix.checks.relations import agree, undeclared
from tunematrix.checks.verdict import Verdict
from tunematrix.configuration import Configuration
from tunematrix.evidence.tensors import TensorKey, Tensors
from tunematrix.spec.relation import Relation, is_relations

key = TensorKey.from_text
ARMS = {"one": {}, "two": {"train.seed": 1}, "three": {"train.seed": 2}}
FIRST = np.array([1.0, -2.0, 4.0])
PLAIN = Configuration.model_validate(CONFIG)
NOTHING: Mapping[str, float] = {}


def relation(*compare: str, **fields: Any) -> Relation:
    """A relation of three arms."""
    return Relation.model_validate({"arms": ARMS, "compare": compare, **fields})


def side(name: str, scale: float = 1.0, /, **figures: float) -> Side:
    """An arm whose gradients and logits are those of the first, scaled."""
    tensors = {key("gradient/0/w"): FIRST * scale, key("logits/trained"): FIRST * scale}
    return Side(name, PLAIN, tensors, "trained", {}, figures)


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
    assert (largest.outcome, str(largest.bound)) == ("passed", "<= 0.02")
    assert (mean.outcome, str(mean.bound)) == ("failed", "<= 0.002")
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
    claim = relation("logits", tolerance={"logits": 0.001}, of_rounding=0.5)
    found = judged(claim, *three(1.05, logit_error=0.1))["same_logits"]
    assert (found.outcome, str(found.bound)) == ("passed", "<= 0.051")
    assert judged(claim, *three(1.06, logit_error=0.1))["same_logits"].outcome == "failed"
    assert str(judged(claim, *three(1.05))["same_logits"].bound) == "<= 0.001"


def test_rounding_of_the_first_arm_alone() -> None:
    """An arm that is far off can't loosen by its own error what it is held to."""
    claim = relation("logits", tolerance={"logits": 0.001}, of_rounding=0.5)
    one, two, last = three(1.05, logit_error=0.01)
    far = replace(two, figures={"logit_error": 9.0})
    found = judged(claim, one, far, last)["same_logits"]
    assert (found.outcome, str(found.bound)) == ("failed", "<= 0.006")


def test_rounding_of_logits_alone() -> None:
    """The error of logits says nothing about how far gradients may be apart."""
    tolerance = {"logits": 0.001, "gradients": 0.001}
    claim = relation("logits", "gradients", tolerance=tolerance, of_rounding=0.5)
    found = judged(claim, *three(1.05, logit_error=0.1))
    outcomes = {name: (one.outcome, str(one.bound)) for name, one in found.items()}
    assert outcomes["same_logits"] == ("passed", "<= 0.051")
    assert outcomes["same_gradients"] == ("failed", "<= 0.001")


@pytest.mark.parametrize(("scale", "outcome"), [(1.004, "passed"), (1.006, "failed")])
def test_nothing_is_recorded(scale: float, outcome: str) -> None:
    """What has no row is held to half a percent; what has one, to its row."""
    found = judged(relation("gradients"), *three(scale), table={"same_gradients": 0.1})
    assert (found["same_gradients"].outcome, str(found["same_gradients"].bound)) == (
        "passed",
        "<= 1",
    )
    mean = found["same_gradients_mean"]
    assert (mean.outcome, str(mean.bound)) == (outcome, "<= 0.005")
    assert mean.message.endswith("; 0.005 is allowed")


def test_what_is_allowed_unrecorded_shows_one_percent() -> None:
    """By the largest and on the mean, in the direction that is the harder one."""
    found = judged(relation("gradients"), *three(0.99))
    assert {one.outcome for one in found.values()} == {"failed"}


STILL = {
    "gradients": [FIRST, FIRST * 0],
    "updates": [FIRST, FIRST * 2, FIRST * 2],
}
"""One tensor of each step, of which the last leaves nothing: gradients, or parameters."""


@pytest.mark.parametrize("quantity", STILL)
def test_steps_in_which_nothing_happens(quantity: str) -> None:
    """Nothing agrees with nothing, whatever is allowed and whatever another step did."""
    claim = relation(quantity, tolerance={quantity: 0.9})

    def same(tensors: Tensors) -> dict[str, Verdict]:
        return judged(claim, *(replace(side(name), tensors=tensors) for name in ARMS))

    kind = "gradient" if quantity == "gradients" else "parameter"
    still = {key(f"{kind}/{n}/w"): one for n, one in enumerate(STILL[quantity])}
    (verdict,) = same(still).values()
    assert (verdict.name, verdict.outcome, verdict.measured) == (f"same_{quantity}", "failed", None)
    assert f"{quantity} other than 0 in step 1 of arm one" in verdict.message
    # Another tensor of the same step is enough.
    moving = {key(f"{kind}/{n}/v"): FIRST * (n + 1) for n in range(len(still))}
    assert {one.outcome for one in same({**still, **moving}).values()} == {"passed"}


def test_only_the_first_arm_is_asked_whether_anything_happens() -> None:
    """An arm that does nothing where the first does something is measured to be far off."""
    found = judged(relation("gradients", tolerance={"gradients": 0.5}), *three(0.0))
    assert (found["same_gradients"].outcome, found["same_gradients"].measured) == ("failed", 1.0)


@pytest.mark.parametrize("quantity", ["parameters", "state", "logits"])
def test_what_may_be_zero(quantity: str) -> None:
    """Only where a step has to do something is 0 nothing: a bias may well be 0."""
    names = ("parameter/0/w", "parameter/1/w", "state/w/exp_avg", "logits/trained")
    zeros = dict.fromkeys(map(key, names), FIRST * 0)
    sides = [replace(side(name), tensors=zeros) for name in ARMS]
    found = judged(relation(quantity, tolerance={quantity: 0.0}), *sides)
    assert {one.outcome for one in found.values()} == {"passed"}


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_what_is_not_finite_fails(scale: float) -> None:
    """By any bound, and though it stands in the middle."""
    claim = relation("gradients", tolerance={"gradients": 0.9})
    assert {one.outcome for one in judged(claim, *three(scale)).values()} == {"failed"}


def test_an_arm_without_tensors() -> None:
    """Nothing is equal to nothing."""
    claim = relation("gradients", "updates", tolerance={"gradients": 0.9, "updates": 0.9})
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
    changed = {
        "method": {**CONFIG["method"], "name": "full", "implementation": {}},
        "train": {**CONFIG["train"], "seed": 1, "learning_rate": 0.2},
    }
    config = Configuration.model_validate({**CONFIG, **changed})
    other = Side("three", config, {}, "trained", {}, {})
    assert undeclared([first, second], ()) == ()
    implementation = tuple(
        f"method.implementation.{key}" for key in CONFIG["method"]["implementation"]
    )
    settings = ("train.learning_rate", "train.seed")
    keys = undeclared([first, second, other], ())
    assert set(keys) == {"method.name", *implementation, *settings}
    assert undeclared([first, other], ["train.seed", "method"]) == ("train.learning_rate",)
    varied = ["tra", "met", "train", "method.name"]
    assert undeclared([first, other], varied) == implementation


def test_names_of_checks() -> None:
    """They tell what a known failure is about."""
    assert is_relations("same_gradients_mean") and is_relations("ratio_stored_mb")
    assert not is_relations("memory_stored") and not is_relations("")
