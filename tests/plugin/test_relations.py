"""Relations: their arms run once, and what they disagree in is told; nothing unjudged is green."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.test_several_at_once import XDIST

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run, Verb

TABLE = f"conf/tolerances/plain-{platform.machine()}.yaml"
ARMS = "{one: {train.accumulation: 1}, two: {train.accumulation: 2}}"
PAIR = ("same_gradients", "same_gradients_mean")


def relate(
    project: Project, name: str, arms: str = ARMS, says: str = "", more: str = "", **fields: str
) -> None:
    """Write a relation of gradients, within 1e-6 if not said otherwise."""
    says = says or "compare: [gradients], tolerance: {gradients: 1.0e-6}"
    text = f"relation: {{arms: {arms}, {says}}}\n{more}"
    project.spec(name, fields.pop("recipe", "keep"), text, **fields)


def tabulate(project: Project, spread: dict[str, float], versions: str = "{}") -> None:
    """Write a table of tolerances for this machine: relation to honest difference."""
    rows = {name: dict.fromkeys(PAIR, figure) for name, figure in spread.items()}
    head = "recorded: '2026-01-02'\nhardware: x\nseeds: 20\nthreads: 1\n"
    project.write(TABLE, f"{head}versions: {versions}\nspread: {json.dumps(rows)}\n")


def ran(project: Project) -> list[str]:
    """The cells of all runs, without their digests, as often as they ran."""
    logs = project.root.glob(".tunematrix/plain/runs/*/ran")
    names = (name for log in logs for name in log.read_text().splitlines())
    return sorted(name.rpartition("-")[0] for name in names)


def tensors(project: Project) -> list[str]:
    """The cells whose tensors are still there."""
    found = project.root.glob(".tunematrix/plain/runs/*/*/tensors.safetensors")
    return sorted(path.parent.name.rpartition("-")[0] for path in found)


OFF = "{one: {train.accumulation: 1}, far: {train.weight_decay: 0.5}}"


@pytest.fixture(scope="module")
def judged(new_project: NewProject) -> tuple[Project, Run]:
    """A run of relations that hold and that don't, with a table for one of them."""
    project = new_project()
    project.option("data", "half", "loss_on: completion\n")
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
    says = "two: {quantizer: lacking}}, compare: [gradients], tolerance: {gradients: 1}}\n"
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
    assert checks["same_gradients"]["bound"] == "<= 1e-06"
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
    bounds = [check["bound"] for check in record["checks"]]
    assert bounds == ["<= 1e-07", "<= 1e-07", "<= 0.001", "<= 0.001"]


UNRECORDED = (
    f"nothing is recorded on plain-{platform.machine()}, so 0.005 is allowed; "
    "record it: nox -s plain -- -m relation --seeds 20; tunematrix tolerances -e plain"
)


@pytest.mark.parametrize(("name", "outcome"), [("unknown", "passed"), ("far", "failed")])
def test_without_a_row_half_a_percent_is_allowed(
    judged: tuple[Project, Run], name: str, outcome: str
) -> None:
    """There is a table, but no row in it: a warning gives the commands that record one."""
    record = judged[0].record[f"{name}[plain-plain]"]
    assert record["outcome"] == outcome
    *compared, warning = record["checks"]
    assert [(one["outcome"], one["bound"]) for one in compared] == [(outcome, "<= 0.005")] * 2
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
    "nothing": ("failed", "same_gradients: the run left no record of gradients in arm one, two"),
    "more": ("error", "not judged: its arms differ in train.loss_on as well; name it in the arms"),
    "raises": ("error", "not judged: arm two (raises[plain-plain-two]) failed: exit: ValueError"),
    "lacks": ("unavailable", "not judged: arm two (lacks[plain-two]) unavailable: quantizer lack"),
}


@pytest.mark.parametrize("name", NOT_JUDGED)
def test_what_cannot_be_judged(judged: tuple[Project, Run], name: str) -> None:
    """It says which arm, or which setting, and is never green."""
    (record,) = [one for one in judged[0].records if one["spec"].endswith(f"{name}.yaml")
                 and one["arms"]]  # fmt: skip
    outcome, reason = NOT_JUDGED[name]
    assert record["outcome"] == outcome
    assert record["reason"].startswith(reason)


def test_the_terminal_shows_relations_in_a_table_of_their_own(judged: tuple[Project, Run]) -> None:
    """With the check that is nearest to its bound; they are in no square of the matrix."""
    lines = judged[1].text.splitlines()
    rows = {line.split()[1]: line.split() for line in lines if re.match(r"\s+[✓✗?!]\s+\w+\[", line)}
    assert rows["holds[plain-plain]"][2:] == ["1e-08", "1e-06", "100×"]
    assert rows["fails[plain-plain]"][2:4] == ["0.5", "1e-06"]
    assert "data|" not in judged[1].text


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
        ("lose", "the run left no record of gradients in arm two"),
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
        "not judged: without the difference, it failed: same_gradients: the run left no record"
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
    assert (code, "far[plain-plain]: was run under 1 seeds; 20 are the le" in text) == (4, True)
    (project.root / "specs/far.yaml").unlink()
    assert project.pytest("-m", "relation", "--seeds=20").code == 0
    code, text = verb(project, "tolerances", "-e", "plain")
    assert (code, text) == (0, f"1 relations are in {TABLE}\n")
    assert project.pytest("--require=plain").code == 0
    (check, *_) = project.records[-1]["checks"]
    assert check["bound"] == "<= 2e-06"
    assert check["measured"] == pytest.approx(1e-8, rel=1e-3)


def test_tables_that_do_not_serve(project: Project) -> None:
    """Another hardware's has no row, a malformed one is told, and an old one warns."""
    relate(project, "a", says="compare: [gradients]")
    tabulate(project, {"a[plain-plain]": 1e-7}, "{torch: 0.1.0}")
    table = project.root / TABLE
    run = project.pytest()
    assert run.code == 0
    *_, warning = project.record["a[plain-plain]"]["checks"]
    assert (warning["name"], warning["outcome"]) == ("tolerances", "warned")
    assert "recorded on 2026-01-02, and since then: torch 0.1.0 → " in warning["message"]
    assert warning["message"].endswith(UNRECORDED.partition("allowed; ")[2])
    table.write_text(table.read_text().replace("seeds: 20", "seeds: many"))
    run = project.pytest()
    assert run.code == 1
    assert project.records[-1]["outcome"] == "error"
    assert f"{TABLE}:3: seeds: expected a whole number, got 'many'" in run.text
    table.rename(table.with_name("plain-z80.yaml"))
    assert project.pytest().code == 0
    *compared, warning = project.records[-1]["checks"]
    assert {check["bound"] for check in compared} == {"<= 0.005"}
    assert warning["message"] == UNRECORDED


def test_a_table_needs_a_folder_of_the_projects_own(project: Project, verb: Verb) -> None:
    """Whoever has none writes into nobody else's."""
    relate(project, "a", says="compare: [gradients]")
    assert project.pytest().code == 0
    elsewhere = (project.root / "conf").rename(project.root.with_name(f"{project.root.name}-conf"))
    settings = project.root / "pyproject.toml"
    settings.write_text(settings.read_text().replace('"conf"', f'"{elsewhere}"'))
    code, text = verb(project, "tolerances", "-e", "plain")
    assert (code, "the project has no config folder of its own; name one in" in text) == (4, True)


def test_a_run_that_is_killed_while_an_arm_runs(project: Project) -> None:
    """Nothing keeps running, and what was compared is gone; the next run begins anew."""
    relate(project, "a")
    relate(project, "b", "{one: {}, two: {train.batch_size: 4}}", recipe="keep_slowly")
    command = [sys.executable, "-m", "pytest", "--environment=plain"]
    with project.started(command, WAIT="1") as process:
        project.wait_for(lambda: list(project.root.glob(".tunematrix/**/hanging")))
        process.kill()
        process.wait()
        assert project.still_running(seconds=10) == []
    before = ["a[plain-plain-one]", "a[plain-plain-two]", "a[plain-plain]", "b[plain-plain-one]"]
    assert project.outcomes == dict.fromkeys(before, "passed")
    assert tensors(project) == ["b-plain-plain-one"]
    assert project.pytest("specs/b.yaml").code == 0
    assert project.records[-1]["outcome"] == "passed"


def test_a_bug_in_an_arm(project: Project) -> None:
    """The arm is an error, and the relation says that it is, not that the disk is full."""
    relate(project, "a", recipe="keep_oddly")
    project.option("quantizer", "plain", "theory: {}\n")
    oddly = project.root / "conf/recipe/keep_oddly.yaml"
    oddly.write_text(f"{oddly.read_text()}trains: true\n")
    assert project.pytest().code == 1
    record = project.record["a[plain-plain]"]
    assert record["outcome"] == "error"
    assert "arm one (a[plain-plain-one]) error: it was begun and not ended" in record["reason"]


def known(*checks: str) -> str:
    """Known failures of whatever has the quantizer plain."""
    entries = [
        f"{{when: {{quantizer: plain}}, check: {check}, reason: a bug, link: 'https://e.org/1'}}"
        for check in checks
    ]
    return f"known_failures: [{', '.join(entries)}]\n"


def test_known_failures(project: Project) -> None:
    """They are the relation's, not its arms'; strict in both directions."""
    relate(project, "known", OFF, more=known(*PAIR))
    relate(project, "half", OFF, more=known(PAIR[0]))
    relate(project, "fixed", more=known(*PAIR))
    stderr = known("stderr")
    relate(project, "arms", recipe="keep_and_shout", more=stderr)
    two = "{quantizer: tiny-int4, train.gradient_checkpointing: true}"
    entry = known("x").replace("check: x", "raises: ValueError").replace("plain", "tiny-int4")
    text = f"relation: {{arms: {{one: {{}}, two: {two}}}, compare: [gradients]}}\n{entry}"
    head = "test_id: raising\nrecipe: keep\noverrides: {quantizer: plain}\n"
    project.write("specs/raising.yaml", head + text)
    run = project.pytest()
    assert run.code == 1
    found = project.outcomes
    names = ("known[plain-plain]", "half[plain-plain]", "fixed[plain-plain]", "arms[plain-plain]")
    assert [found[name] for name in names] == ["known_failure", "failed", "failed", "passed"]
    assert found["raising[plain]"] == found["raising[plain-two]"] == "known_failure"
    assert {found[arm] for arm in project.record["known[plain-plain]"]["arms"]} == {"passed"}
    assert found["arms[plain-plain-one]"] == "known_failure"
    reason = project.record["fixed[plain-plain]"]["reason"]
    assert "expected to fail" in reason and "and passed" in reason


def test_exclusions_of_arms(project: Project) -> None:
    """The relation is excluded, and the arm that is declared unsupported can be probed."""
    no = '{reason: "so they say", link: "https://example.org/1", raises: ValueError}'
    project.option("quantizer", "refused", f"capabilities: {{recipe: {{keep: {no}}}}}\n")
    arms = "{one: {quantizer: plain}, two: {quantizer: refused}}"
    text = f"relation: {{arms: {arms}, compare: [gradients]}}\n"
    project.write("specs/a.yaml", f"test_id: a\nrecipe: keep\n{text}")
    project.spec("good", "succeed")
    assert project.pytest("specs").code == 0
    run = project.pytest("-m", "probe")
    assert run.code == 1
    (probe,) = [one for one in project.records if one["cell_id"] == "a[plain]"]
    assert (probe["outcome"], probe["axes"]["quantizer"]) == ("failed", "refused")
    assert "expected to fail (ValueError) and passed" in probe["reason"]


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
    assert "0 is no number of seeds; give 1 or more" in run.text
