"""Relations in a plan: their ids, which are selected, and what is planted in them."""

from __future__ import annotations

import json
from itertools import chain

import pytest
from tests.unit.matrix.related import CPU, arms_of, refused, relating, specs

from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import plan
from tunematrix.matrix.seeds import under_seeds
from tunematrix.matrix.select import parse_selection


def test_ids(small: Groups) -> None:
    """A relation is called as a cell would be, and its arms add their names."""
    head = "matrix: {quantizer: [none, int4]}\n"
    found = plan(specs(a=relating(head=head)), small, CPU)
    assert arms_of(found) == {
        "a[cpu-none]": ["a[cpu-none-one]", "a[cpu-none-two]"],
        "a[cpu-int4]": ["a[cpu-int4-one]", "a[cpu-int4-two]"],
    }
    assert [cell.id for cell in found.cells] == list(chain(*arms_of(found).values()))
    kept = {"meters.tensors": True}
    assert [cell.overrides for cell in found.cells[:2]] == [kept, {**kept, "train.batch_size": 4}]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("quantizer=int4", ["a[cpu-lora]"]),
        ("quantizer=none", ["a[cpu-lora]", "b[cpu]"]),
        ("method=full", ["b[cpu]"]),
        ("method=lora", ["a[cpu-lora]", "b[cpu]"]),
    ],
)
def test_selection_by_axis(small: Groups, axis: str, expected: list[str]) -> None:
    """A relation is wanted with all of its arms if one of them is."""
    first = relating(
        "  arms: {x: {quantizer: none}, y: {quantizer: int4}}\n", "matrix: {method: [lora]}\n"
    )
    second = relating(
        "  arms: {x: {method: lora, train.seed: 1}, y: {method: full, train.seed: 1}}\n"
    )
    found = plan(specs(a=first, b=second), small, CPU, parse_selection([axis], small))
    assert list(arms_of(found)) == expected
    assert len(found.cells) == 2 * len(expected)


def test_known_failures_need_not_be_about_every_arm(small: Groups) -> None:
    """It is refused only where no arm has the option."""
    arms = "  arms: {x: {method: lora}, y: {method: full}}\n"
    entry = "known_failures: [{when: {%s}, check: moved, reason: r, link: 'https://e.org'}]\n"
    assert plan(specs(a=relating(arms, more=entry % "method: full")), small, CPU).relations
    (problem,) = refused(small, a=relating(arms, more=entry % "quantizer: int4"))
    assert "no cell of this spec has quantizer int4" in problem


def test_a_planted_difference(small: Groups) -> None:
    """It is in one arm alone, under another id; the honest arm stays what it is."""
    planted = "  planted: [{arm: two, fault: 'my.faults:scaled'}]\n"
    (related,) = plan(specs(a=relating(more=planted)), small, CPU).relations
    sabotaged = related.with_planted(related.relation.planted[0])
    assert sabotaged.id == "a[cpu]!scaled"
    assert [(arm.cell.id, arm.cell.faults) for arm in sabotaged.arms] == [
        ("a[cpu-one]", ()),
        ("a[cpu-two]!scaled", ("my.faults:scaled",)),
    ]
    assert [arm.cell.faults for arm in related.arms] == [(), ()]
    assert (sabotaged.base_id, sabotaged.planted) == ("a[cpu]", "scaled")
    assert sabotaged.arms[1].cell.planted == "scaled"


def test_a_sabotage_of_all_arms(small: Groups) -> None:
    """Under a seed, the id shows both; which is which is asked of the cell, not of its id."""
    (related,) = under_seeds(plan(specs(a=relating()), small, CPU), 1).relations
    sabotaged = related.sabotaged("half", "my.faults:halved")
    assert sabotaged.id == "a[cpu]@0!half"
    assert [(arm.cell.id, arm.cell.faults) for arm in sabotaged.arms] == [
        ("a[cpu-one]@0!half", ("my.faults:halved",)),
        ("a[cpu-two]@0!half", ("my.faults:halved",)),
    ]
    assert {(arm.cell.seed, arm.cell.planted) for arm in sabotaged.arms} == {(0, "half")}


def test_axes_as_json(small: Groups) -> None:
    """Several options of an axis are a list."""
    arms = "  arms: {x: {method: lora}, y: {method: full}}\n"
    (shown,) = plan(specs(a=relating(arms)), small, CPU).to_json()["relations"]
    assert json.loads(json.dumps(shown))["axes"]["method"] == ["lora", "full"]
    assert shown["axes"]["quantizer"] == "none"


def test_json(small: Groups) -> None:
    """A relation is listed by its own spec, also where its arms are another's."""
    found = plan(specs(a=relating(), b=relating(head="markers: [b]\n")), small, CPU)
    shown = json.loads(json.dumps(found.to_json()))["relations"][1]
    assert shown == {
        "id": "b[cpu]",
        "spec": "b",
        "file": "b.yaml",
        "axes": {"recipe": "sft", "method": "lora", "quantizer": "none", "backend": "cpu"},
        "markers": ["b"],
        "arms": {"one": "a[cpu-one]", "two": "a[cpu-two]"},
        "compare": ["gradients"],
    }


def test_seeds(small: Groups) -> None:
    """Each cell and relation once for each seed, which goes before the spec's own."""
    head = "overrides: {train.seed: 5}\n"
    texts = {"a": relating(head=head), "b": relating(head=head), "c": "timeout: 9\n"}
    whole = plan(specs(**texts), small, CPU)
    found = under_seeds(whole, 2)
    assert [cell.id for cell in found.cells] == [
        *("c[cpu]@0", "a[cpu-one]@0", "a[cpu-two]@0"),
        *("c[cpu]@1", "a[cpu-one]@1", "a[cpu-two]@1"),
    ]
    overrides = {"meters.tensors": True, "train.batch_size": 4, "train.seed": 1}
    assert found.cells[5].overrides == overrides
    assert (found.cells[5].base_id, found.cells[5].seed) == ("a[cpu-two]", 1)
    assert {(related.base_id, related.seed) for related in found.relations} == {
        (f"{name}[cpu]", seed) for seed in (0, 1) for name in ("a", "b")
    }
    assert arms_of(found) == {
        f"{name}[cpu]@{seed}": [f"a[cpu-one]@{seed}", f"a[cpu-two]@{seed}"]
        for seed in (0, 1)
        for name in ("a", "b")
    }
    arms = {arm.cell for related in found.relations for arm in related.arms}
    assert arms <= set(found.cells)
    assert len(whole.cells) == 3
