from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import Plan, plan
from tunematrix.matrix.seeds import under_seeds
from tunematrix.matrix.select import parse_selection
from tunematrix.spec import Spec, load_specs

MakeRoot = Callable[..., Path]

CELL = """
defaults: [{recipe: sft}, {method: lora}, {quantizer: none}, {backend: cpu}]
train: {batch_size: 8, accumulation: 1, seed: 0}
meters: {tensors: false}
"""
RATES = "learning_rates: {adaptive: 0.01, plain: 1.0}\n"
SMALL = {
    "cell.yaml": CELL,
    "recipe/sft.yaml": "name: sft\n",
    "method/lora.yaml": "name: lora\ntrains_base: false\n" + RATES,
    "method/full.yaml": "name: full\ntrains_base: true\n" + RATES,
    "quantizer/none.yaml": "name: none\n",
    "quantizer/int4.yaml": "name: int4\ncapabilities:\n"
    "  backend: {cpu: true, cuda: true}\n"
    "  method: {lora: true, full: {reason: no gradient, link: 'https://e.org', raises: E}}\n",
    "backend/cpu.yaml": "name: cpu\n",
    "backend/cuda.yaml": "name: cuda\n",
    "backend/mlx.yaml": "name: mlx\n",
}
ARMS = "  arms:\n    one: {train.batch_size: 8}\n    two: {train.batch_size: 4}\n"
SAME = "  compare: [gradients]\n"
CPU = Environment("cpu", "", ("cpu",))


@pytest.fixture
def small(make_root: MakeRoot) -> Groups:
    """Config groups with one exclusion, and a quantizer that isn't at home on mlx."""
    return read_groups([make_root(SMALL)])


def specs(**texts: str) -> list[Spec]:
    """Load specs of the recipe sft by their names."""
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(f"test_id: {name}\nrecipe: sft\n{text}", encoding="utf-8")
    return list(load_specs([Path(f"{name}.yaml") for name in texts]))


def relating(arms: str = ARMS, head: str = "", more: str = "") -> str:
    """Return the rest of a spec with a relation."""
    return f"{head}relation:\n{arms}{SAME}{more}"


def arms_of(found: Plan) -> dict[str, list[str]]:
    """Return relation to the ids of its arms."""
    return {one.id: [arm.cell.id for arm in one.arms] for one in found.relations}


def refused(groups: Groups, **texts: str) -> list[str]:
    """Return the lines with which specs are refused."""
    with pytest.raises(BadInput) as caught:
        plan(specs(**texts), groups, CPU)
    return str(caught.value).splitlines()[1:]


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
