"""Relations: their arms run once, and what they disagree in is told; nothing unjudged is green."""

from __future__ import annotations

import json
import os
import re
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.relating import OFF, PAIR, TABLE, UNRECORDED, ran, relate, tabulate, tensors
from tests.plugin.test_several_at_once import XDIST

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run, Verb


@pytest.fixture(scope="module")
def judged(new_project: NewProject) -> tuple[Project, Run]:
    """A run of relations that hold and that don't, with a table for one of them."""
    project = new_project()
    project.option("data", "half", "form: prompt-completion\nloss_on: completion\n")
    project.option("quantizer", "lacking", "requires: [no_such_library]\n")
    relate(project, "holds", more="overrides: {train.learning_rate: 0.5}\n")
    relate(project, "fails", OFF)
    relate(project, "table", says="compare: [gradients, logits], tolerance: {logits: 1.0e-3}")
    relate(project, "unknown", says="compare: [gradients]")
    relate(project, "far", OFF, "compare: [gradients]")
    relate(project, "ratio", "{one: {train.batch_size: 8}, two: {train.batch_size: 2}}",
           "ratio: {stored_mb: {two: {max: 0.2}}}")  # fmt: skip
    relate(project, "nothing", "{one: {train.seed: 1}, two: {train.seed: 2}}",
           more="overrides: {train.max_steps: 1}\n")  # fmt: skip
    relate(project, "more", "{one: {data: text}, two: {data: half}}")
    relate(project, "raises", "{one: {}, two: {train.gradient_checkpointing: true}}")
    small = "memory: {stored_mb: {max: 0.01}}\n"
    relate(project, "large", "{one: {}, two: {train.batch_size: 16}}", more=small)
    apart = "{one: {}, two: {train.batch_size: 16, train.weight_decay: 0.5}}"
    relate(project, "apart", apart, more=small)
    lacking = "test_id: lacks\nrecipe: keep\nrelation: {arms: {one: {quantizer: plain}, "
    says = "two: {quantizer: lacking}}, compare: [gradients], tolerance: {gradients: 0.9}}\n"
    project.write("specs/lacks.yaml", lacking + says)
    tabulate(project, {"table[plain-plain]": 1e-8})
    return project, project.pytest()


def test_one_that_holds(judged: tuple[Project, Run]) -> None:
    """Its record has the checks with figure and bound, and names its arms."""
    record = judged[0].record["holds[plain-plain]"]
    assert record["outcome"] == "passed"
    assert record["arms"] == ["holds[plain-plain-one]", "holds[plain-plain-two]"]
    checks = {check["name"]: check for check in record["checks"]}
    assert set(checks) == set(PAIR)
    assert checks["same_gradients"]["measured"] == pytest.approx(1e-8, rel=1e-3)
    assert checks["same_gradients"]["bound"] == {"kind": "at_most", "limit": 1e-6, "note": ""}
    assert record["versions"] and record["machine"]["isolation"]


def test_one_that_fails(judged: tuple[Project, Run]) -> None:
    """Place, figure and tolerance stand in the report and in the record; its arms are green."""
    project, run = judged
    assert run.code == 1
    assert project.outcomes["fails[plain-plain]"] == "failed"
    assert project.outcomes["fails[plain-plain-far]"] == "passed"
    place = "largest between one and far, at weight, gradient of step 1; 1e-06 is allowed"
    assert "same_gradients: measured 0.5 of the tensor's largest, bound <= 1e-06\n" in run.text
    assert f"because  0.5 of the tensor's largest, {place}\n" in run.text
    assert "arms:      fails[plain-plain-one], fails[plain-plain-far]\n" in run.text
    assert place in project.record["fails[plain-plain]"]["reason"]
    assert project.junit()["fails[plain-plain]"] == "failure"


def test_the_table_bounds_what_theory_does_not(judged: tuple[Project, Run]) -> None:
    """Ten times what it holds; a quantity with a tolerance of its own keeps that."""
    record = judged[0].record["table[plain-plain]"]
    assert record["outcome"] == "passed"
    limits = [check["bound"]["limit"] for check in record["checks"]]
    assert limits == pytest.approx([1e-7, 1e-7, 0.001, 0.001])


@pytest.mark.parametrize(("name", "outcome"), [("unknown", "passed"), ("far", "failed")])
def test_without_a_row_half_a_percent_is_allowed(
    judged: tuple[Project, Run], name: str, outcome: str
) -> None:
    """There is a table, but no row in it: a warning gives the commands that record one."""
    record = judged[0].record[f"{name}[plain-plain]"]
    assert record["outcome"] == outcome
    *compared, warning = record["checks"]
    results = [(check["outcome"], check["bound"]["limit"]) for check in compared]
    assert results == [(outcome, 0.005)] * 2
    assert (warning["name"], warning["outcome"]) == ("tolerances", "warned")
    assert warning["message"] == UNRECORDED


@pytest.mark.parametrize("name", ["holds", "table", "fails", "ratio"])
def test_nothing_is_to_be_recorded(judged: tuple[Project, Run], name: str) -> None:
    """Where all is bounded by theory, by a ratio, or by its row, there is no warning."""
    checks = judged[0].record[f"{name}[plain-plain]"]["checks"]
    assert "tolerances" not in [check["name"] for check in checks]


def test_a_ratio(judged: tuple[Project, Run]) -> None:
    """Of a figure that each arm's record has."""
    record = judged[0].record["ratio[plain-plain]"]
    assert record["outcome"] == "failed"
    assert "stored_mb of arm two is 0.25 times one's, 0.008 MB" in record["reason"]


@pytest.mark.parametrize(
    ("name", "own"), [("large", "what it compares agrees"), ("apart", "same_gradients: 0.5 of")]
)
def test_an_arm_that_fails_checks_of_its_own(
    judged: tuple[Project, Run], name: str, own: str
) -> None:
    """What it left is compared all the same, and the relation isn't green."""
    record = judged[0].record[f"{name}[plain-plain]"]
    assert record["outcome"] == "failed"
    assert record["reason"].startswith(own)
    assert f"; arm {name}[plain-plain-two] failed: memory_stored: " in record["reason"]
    failed = {check["name"] for check in record["checks"] if check["outcome"] == "failed"}
    assert failed == (set(PAIR) if name == "apart" else set())


NOT_JUDGED = {
    "nothing": ("failed", "same_gradients: no reading of gradients in arm one, two"),
    "more": ("error", "not compared: the arms also differ in train.loss_on; name them in the arms"),
    "raises": ("error", "not compared: arm two (raises[plain-plain-two]) failed: exit: ValueError"),
    "lacks": (
        "unavailable",
        "not compared: arm two (lacks[plain-two]) unavailable: quantizer lack",
    ),
}


@pytest.mark.parametrize("name", NOT_JUDGED)
def test_what_cannot_be_judged(judged: tuple[Project, Run], name: str) -> None:
    """It says which arm, or which setting, and is never green."""
    (record,) = [one for one in judged[0].records if one["spec"].endswith(f"{name}.yaml")
                 and one["arms"]]  # fmt: skip
    outcome, reason = NOT_JUDGED[name]
    assert record["outcome"] == outcome
    assert record["reason"].startswith(reason)


def test_relations_are_listed_on_request(judged: tuple[Project, Run]) -> None:
    """With the check that is nearest to its bound; they are in no square of the matrix."""
    project, run = judged
    failed = sum(
        bool(record["arms"]) and record["outcome"] == "failed" for record in project.records
    )
    assert re.search(rf"^relations: .*✗ {failed} failed", run.text, re.M)
    lines = project.tunematrix("report", "-e", "plain", "--all").text.splitlines()
    below = dict(pairwise(line.strip() for line in lines))
    figures = r"same_gradients\w*: measured 1e-08 of the [\w' ]+, bound <= 1e-06, 99% left"
    assert re.fullmatch(figures, below["✓  holds[plain-plain]"])
    figures = r"same_gradients\w*: measured 0.5 of the [\w' ]+, bound <= 1e-06"
    assert re.fullmatch(figures, below["✗  fails[plain-plain]"])
    assert not any(line.startswith("✓  keep") and "|" in line for line in lines)


def test_tensors_are_kept_where_something_failed(judged: tuple[Project, Run]) -> None:
    """And removed where the relation was good, with a table or without."""
    kept = tensors(judged[0])
    assert "fails-plain-plain-far" in kept
    assert not [name for name in kept if name.startswith(("holds", "table", "unknown"))]


def test_tensors_are_kept_where_that_is_asked_for(project: Project) -> None:
    """Beside the rest of the output."""
    relate(project, "holds")
    assert project.pytest("--keep-output").code == 0
    assert tensors(project) == ["holds-plain-plain-one", "holds-plain-plain-two"]


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("name", "code"), [("more", 1), ("lacks", 0)])
def test_exit_codes(judged: tuple[Project, Run], name: str, code: int) -> None:
    """What is unavailable fails where it is required; a wrong relation in any case."""
    project, _ = judged
    before = len(project.records)
    assert project.pytest(f"specs/{name}.yaml").code == code
    assert project.pytest(f"specs/{name}.yaml", "--require=plain").code == 1
    assert "passed" not in [one["outcome"] for one in project.records[before:] if one["arms"]]


@pytest.fixture(scope="module")
def several(new_project: NewProject) -> Project:
    """Two relations that share both arms, a nightly one, and a cell; nothing has run."""
    project = new_project()
    relate(project, "a", quantizers="[plain, tiny-int4]")
    swapped = "{other: {train.accumulation: 2}, first: {train.accumulation: 1}}"
    relate(project, "b", swapped, more="markers: [special]\n")
    relate(project, "late", "{x: {train.seed: 3}, y: {train.seed: 4}}", more="markers: [nightly]\n")
    project.spec("cell", "succeed")
    return project


A = ["a.yaml::a[plain-plain]", "a.yaml::a[plain-plain-one]", "a.yaml::a[plain-plain-two]"]
INT4 = [name.replace("plain-plain", "plain-tiny-int4") for name in A]
LATE = [f"late.yaml::late[plain-plain{arm}]" for arm in ("", "-x", "-y")]
CELL, B = "cell.yaml::cell[plain-plain]", "b.yaml::b[plain-plain]"


@pytest.mark.each_time(5)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [*A, *INT4, B, CELL]),
        (["-m", "relation"], [*A, *INT4, B]),
        (["-m", "relation and nightly"], LATE),
        (["-m", "nightly"], LATE),
        (["-m", "special"], [*A[1:], B]),
        (["-k", "two and tiny"], [INT4[2]]),
        (["-k", "tiny-int4] and a"], INT4),
        (["--axis=quantizer=tiny-int4"], INT4),
        ([f"specs/{A[0]}"], A),
        ([f"specs/{LATE[0]}"], LATE),
        ([f"specs/{A[1]}"], [A[1]]),
        ([f"specs/{B}"], [B, B.replace("]", "-other]"), B.replace("]", "-first]")]),
    ],
)
def test_what_is_selected(several: Project, arguments: list[str], expected: list[str]) -> None:
    """A relation brings its arms, before it; what is for the night is left out by default."""
    run = several.pytest("--collect-only", "-q", *arguments)
    found = [name.removeprefix("specs/") for name in run.collected]
    assert run.code == 0
    # An arm that another file's relation needs is listed with that relation.
    names = [name.partition("::")[2] for name in found]
    assert sorted(names) == sorted(name.partition("::")[2] for name in expected)
    for name in names:
        if name + "x" not in names and f"{name[:-1]}-one]" in names:
            assert names.index(f"{name[:-1]}-one]") < names.index(name)


@pytest.mark.parametrize("parallel", [(), XDIST])
def test_arms_run_once(new_project: NewProject, parallel: tuple[str, ...]) -> None:
    """Whoever comes first, also if a relation and its arms are on two workers."""
    project = new_project()
    for name in "abc":
        relate(project, name)
    run = project.pytest(*parallel)
    assert run.code == 0, run.text
    arms = ["a[plain-plain-one]", "a[plain-plain-two]"]
    assert project.outcomes == dict.fromkeys(
        [*arms, *(f"{name}[plain-plain]" for name in "abc")], "passed"
    )
    assert all(project.record[f"{name}[plain-plain]"]["arms"] == arms for name in "abc")
    assert ran(project) == ["a-plain-plain-one", "a-plain-plain-two"]
    assert tensors(project) == []


@pytest.mark.nightly
def test_seeds(project: Project, verb: Verb) -> None:
    """Each seed is a run of its own; the table that comes of twenty is what the next run reads."""
    relate(project, "a", says="compare: [gradients]")
    relate(project, "far", OFF, "compare: [gradients]")
    few = project.pytest("--seeds", "2")
    assert few.code == 1
    assert "2 failed, 8 passed" in few.text
    again = re.search(r"run again: (.*far\[plain-plain\]@1.*)", few.text)
    assert again
    assert project.run(shlex.split(again[1])).code == 1
    assert project.records[-1]["cell_id"] == "far[plain-plain]@1"
    code, text = verb(project, "tolerances", "-e", "plain")
    assert (code, "far[plain-plain]: was run under 1 seed; 20 are the le" in text) == (4, True)
    (project.root / "specs/far.yaml").unlink()
    assert project.pytest("-m", "relation", "--seeds=20").code == 0
    code, text = verb(project, "tolerances", "-e", "plain")
    assert (code, text) == (0, f"1 relation is in {TABLE}\n")
    assert project.pytest("--require=plain").code == 0
    (check, *_) = project.records[-1]["checks"]
    assert (check["bound"]["kind"], check["bound"]["limit"]) == ("at_most", pytest.approx(2e-6))
    assert check["measured"] == pytest.approx(1e-8, rel=1e-3)


def test_plan(several: Project, verb: Verb) -> None:
    """Relations are listed with their arms, in text and as data."""
    code, text = verb(several, "plan", "-e", "plain")
    assert code == 0
    assert "b[plain-plain]  = a[plain-plain-two], a[plain-plain-one]\n" in text
    assert text.endswith("7 cells, 0 exclusions, 4 relations in plain\n")
    code, text = verb(several, "plan", "-e", "plain", "--json")
    shown: list[dict[str, Any]] = json.loads(text)["relations"]
    assert [one["id"] for one in shown if one["spec"] == "b"] == ["b[plain-plain]"]
    assert shown[2]["arms"] == {"other": "a[plain-plain-two]", "first": "a[plain-plain-one]"}


def test_debugging_a_relation(several: Project) -> None:
    """Its arms run in this process, like a cell's."""
    run = several.tunematrix("run", "-e", "plain", "--debug", "b[plain-plain]", "-k", "b")
    assert run.code == 0, run.text
    assert "3 passed" in run.text


def test_number_of_seeds(several: Project) -> None:
    """None is no number of them."""
    run = several.pytest("--seeds=0", COLUMNS="200")
    assert run.code == os.EX_USAGE or run.code == 4
    assert "expected a number of seeds, 1 or more, got 0" in run.text
