"""The arms of a relation: which cells they run, which they share, and what is wrong in one."""

from __future__ import annotations

import pytest
from tests.unit.matrix.related import CPU, SMALL, arms_of, refused, relating, specs
from tests.unit.matrix.two_axes import MakeRoot

from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan


def test_axes_in_which_arms_differ(small: Groups) -> None:
    """A relation has both options; each arm its own."""
    arms = "  arms: {x: {method: lora}, y: {method: full}, z: {method: lora, train.seed: 3}}\n"
    (related,) = plan(specs(a=relating(arms)), small, CPU).relations
    assert related.axes["method"] == ("lora", "full")
    assert related.axes["quantizer"] == "none"
    assert [arm.cell.axes["method"] for arm in related.arms] == ["lora", "full", "lora"]


def test_arms_go_before_the_overrides_of_the_spec(small: Groups) -> None:
    """What all have in common stands once, and an arm may say otherwise."""
    head = "overrides: {train.batch_size: 2, train.accumulation: 3}\n"
    (related,) = plan(specs(a=relating(head=head)), small, CPU).relations
    assert [arm.cell.overrides for arm in related.arms] == [
        {"meters.tensors": True, "train.accumulation": 3},
        {"meters.tensors": True, "train.batch_size": 4, "train.accumulation": 3},
    ]


@pytest.mark.parametrize(
    ("compare", "kept"),
    [
        ("gradients", True),
        ("updates", True),
        ("parameters", True),
        ("state", True),
        ("losses", False),
        ("logits", False),
        ("losses, updates", True),
    ],
)
def test_what_is_compared_is_kept(small: Groups, compare: str, kept: bool) -> None:
    """Each arm keeps its tensors without being told; where none are compared, none does."""
    text = relating().replace("compare: [gradients]", f"compare: [{compare}]")
    (related,) = plan(specs(a=text), small, CPU).relations
    assert ["meters.tensors" in arm.cell.overrides for arm in related.arms] == [kept, kept]


def test_what_a_spec_says_of_its_tensors(small: Groups) -> None:
    """Its own overrides go before what the comparison needs, and an arm's before those."""
    head = "overrides: {meters.tensors: false}\n"
    arms = "  arms:\n    one: {}\n    two: {meters.tensors: true}\n"
    (related,) = plan(specs(a=relating(arms, head)), small, CPU).relations
    assert [arm.cell.overrides for arm in related.arms] == [
        {},
        {"meters.tensors": True},
    ]


def test_a_cell_of_its_own_keeps_nothing(small: Groups) -> None:
    """Only arms are compared, though a cell run the same else."""
    found = plan(specs(a=relating(), b=""), small, CPU)
    assert [cell.overrides for cell in found.cells if cell.id == "b[cpu]"] == [{}]


def test_arms_that_run_the_same_are_one_cell(small: Groups) -> None:
    """Whatever spec they stand in, and however they are called there."""
    other = "  arms: {four: {train.batch_size: 4}, none: {}}\n"
    found = plan(specs(a=relating(), b=relating(other)), small, CPU)
    assert arms_of(found) == {
        "a[cpu]": ["a[cpu-one]", "a[cpu-two]"],
        "b[cpu]": ["a[cpu-two]", "a[cpu-one]"],
    }
    assert [cell.id for cell in found.cells] == ["a[cpu-one]", "a[cpu-two]"]
    assert found.to_json()["repeats"] == []


def test_arms_that_are_judged_otherwise_are_not_shared(small: Groups) -> None:
    """One verdict can't stand for two bounds; names, descriptions and markers don't matter."""
    same = "description: the same\nmarkers: [other]\n"
    found = plan(
        specs(a=relating(), b=relating(more="timeout: 7\n"), c=relating(head=same)), small, CPU
    )
    assert arms_of(found)["b[cpu]"] == ["b[cpu-one]", "b[cpu-two]"]
    assert arms_of(found)["c[cpu]"] == ["a[cpu-one]", "a[cpu-two]"]
    assert set(found.markers) == {"integration", "other"}


def test_stages_of_one_cell_are_compared(small: Groups) -> None:
    """Two arms may run the same if they bring other logits of it."""
    text = "relation: {arms: {x: {}, y: {logits: merged}}, compare: [logits]}\n"
    (related,) = plan(specs(a=text), small, CPU).relations
    assert [arm.cell.id for arm in related.arms] == ["a[cpu-x]", "a[cpu-x]"]
    assert [arm.stage for arm in related.arms] == ["trained", "merged"]


def test_arms_that_could_never_differ(small: Groups) -> None:
    """They would agree whatever is broken, so nothing would be tested."""
    arms = "  arms:\n    x: {train.batch_size: 4}\n    y: {}\n    z: {train.batch_size: 8}\n"
    assert refused(small, a=relating(arms)) == [
        "a.yaml:7: relation.arms.z: runs the same as arm y, so they always agree; make them differ"
    ]


def test_an_arm_that_is_not_at_home(make_root: MakeRoot) -> None:
    """Where one can't be, there is no relation, no exclusion and no other arm."""
    capabilities = "name: int4\ncapabilities: {backend: {cpu: true}}\n"
    groups = read_groups([make_root({**SMALL, "quantizer/int4.yaml": capabilities})])
    arms = "  arms: {x: {quantizer: none}, y: {quantizer: int4}}\n"
    both = Environment("both", "", ("cpu", "cuda"))
    found = plan(specs(a=relating(arms)), groups, both)
    assert arms_of(found) == {"a[cpu]": ["a[cpu-x]", "a[cpu-y]"]}
    assert found.exclusions == ()


def test_an_arm_that_is_excluded(small: Groups) -> None:
    """The relation is excluded, by that arm's name, and nothing of it runs."""
    arms = "  arms: {x: {quantizer: none}, y: {quantizer: int4}}\n"
    found = plan(specs(a=relating(arms, "matrix: {method: [lora, full]}\n")), small, CPU)
    assert list(arms_of(found)) == ["a[cpu-lora]"]
    assert len(found.cells) == 2
    (exclusion,) = found.exclusions
    assert exclusion.cell.id == "a[cpu-full]"
    assert (exclusion.reason, exclusion.raises) == ("arm y: no gradient", "E")
    assert exclusion.cell.axes["quantizer"] == "int4"


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("methd: full", "relation.arms.x.methd: there is no such key in cell.yaml; "),
        ("method: ful", "relation.arms.x.method: ful is not an option of method; did you mean f"),
        ("train.batch_sise: 1", "relation.arms.x.train.batch_sise: there is no such key in cell"),
        ("train.batch_size: big", "relation.arms.x.train.batch_size: expected a whole number, g"),
        ("backend: cuda", "relation.arms.x.backend: name the backend of every arm, and more than"),
        ("quantizer: int4", "relation.arms.x.quantizer: is varied by the matrix (a.yaml:3); rem"),
    ],
)
def test_what_is_wrong_in_an_arm(small: Groups, arm: str, expected: str) -> None:
    """It is told in the line of the arm's own entry, and once."""
    arms = f"  arms:\n    x:\n      train.seed: 1\n      {arm}\n    y: {{}}\n"
    (problem,) = refused(small, a=relating(arms, "matrix: {quantizer: [none, int4]}\n"))
    assert problem.startswith(f"a.yaml:8: {expected}")


def test_what_is_wrong_for_all_arms_is_told_once(small: Groups) -> None:
    """An override of the spec keeps its own line."""
    (problem,) = refused(small, a=relating(head="overrides: {train.sed: 1}\n"))
    assert problem.startswith("a.yaml:3: overrides.train.sed: there is no such key")
