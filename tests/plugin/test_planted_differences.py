"""Planted differences: what a relation must notice, and what it must not be credited with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.plugin.relating import ran, relate

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run


def planting(*faults: str) -> str:
    """What a relation says that must notice these in its second arm."""
    planted = ", ".join(f"{{arm: two, fault: 'tiny_recipes:{fault}'}}" for fault in faults)
    return f"compare: [gradients], tolerance: {{gradients: 1.0e-6}}, planted: [{planted}]"


@pytest.fixture(scope="module")
def planted(new_project: NewProject) -> tuple[Project, Run]:
    """Faults that are noticed, that aren't, and that leave nothing to compare."""
    project = new_project()
    relate(project, "a", says=planting("scale", "idle", "shout", "gone", "burst", "lose"))
    relate(project, "none", "{one: {}, two: {train.seed: 2}}", says=planting("scale"),
           more="overrides: {train.max_steps: 1}\n")  # fmt: skip
    unbounded = planting("idle", "scale").replace("tolerance: {gradients: 1.0e-6}, ", "")
    relate(project, "unknown", says=unbounded)
    return project, project.pytest("-m", "planted")


def test_planted_differences(planted: tuple[Project, Run]) -> None:
    """Noticed is passed; unnoticed is failed, though the arm's own checks may have noticed."""
    project, run = planted
    found = {
        name.partition("]!")[2]: (record["outcome"], record["reason"])
        for name, record in project.record.items()
        if name.startswith("a[plain-plain]!")
    }
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "scale": "passed", "idle": "failed", "shout": "failed", "gone": "error",
        "burst": "failed", "lose": "failed",
    }  # fmt: skip
    assert found["scale"][1].startswith("noticed: same_gradients: 0.01 of the tensor's largest, ")
    assert found["idle"][1] == "tiny_recipes:idle in arm two went unnoticed"
    assert found["shout"][1] == "tiny_recipes:shout in arm two went unnoticed"
    assert run.code == 1
    assert " -m planted" in run.text


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("burst", "nan of the tensor's largest, "),
        ("lose", "no reading of gradients in arm two"),
    ],
)
def test_nothing_measured_is_nothing_noticed(
    planted: tuple[Project, Run], fault: str, why: str
) -> None:
    """What breaks an arm fails any relation, and shows nothing of what this one can see."""
    reason = planted[0].record[f"a[plain-plain]!{fault}"]["reason"]
    assert reason.startswith(f"tiny_recipes:{fault} in arm two went unnoticed: {why}")


def test_what_fails_without_the_difference_notices_nothing(planted: tuple[Project, Run]) -> None:
    """It is judged without it first, and where that isn't good, no more is said."""
    record = planted[0].record["none[plain-plain]!scale"]
    assert record["outcome"] == "error"
    assert record["reason"].startswith(
        "not compared: without the difference, it failed: same_gradients: no reading of"
    )
    assert ran(planted[0]).count("none-plain-plain-two") == 1
    assert not [name for name in ran(planted[0]) if name.startswith("none-plain-plain-two-scale")]


def test_what_is_noticed_without_a_row(planted: tuple[Project, Run]) -> None:
    """One percent is more than the half that is allowed."""
    found = planted[0].outcomes
    names = [f"unknown[plain-plain]!{fault}" for fault in ("scale", "idle")]
    assert [found[name] for name in names] == ["passed", "failed"]


def test_sabotaged_arms_are_no_cells(planted: tuple[Project, Run]) -> None:
    """They run for the relation alone; honest arms run beside them, and the relation doesn't."""
    project, _ = planted
    cells = [name for name, one in project.record.items() if not one["arms"]]
    honest = ["a[plain-plain-one]", "a[plain-plain-two]"]
    assert sorted(name for name in cells if name.startswith("a[")) == honest
    assert "a[plain-plain]" not in project.record
    assert [ran(project).count(f"a-plain-plain-{arm}") for arm in ("one", "two")] == [1, 1]
