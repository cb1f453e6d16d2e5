"""Relations whose table, arms or process fail them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.plugin.relating import OFF, PAIR, TABLE, UNRECORDED, relate, tabulate, tensors

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb


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
    assert {check["bound"]["limit"] for check in compared} == {0.005}
    assert warning["message"] == UNRECORDED


def test_a_table_needs_a_folder_of_the_projects_own(project: Project, verb: Verb) -> None:
    """Whoever has none writes into nobody else's."""
    relate(project, "a", says="compare: [gradients]")
    assert project.pytest().code == 0
    elsewhere = (project.root / "conf").rename(project.root.with_name(f"{project.root.name}-conf"))
    settings = project.root / "pyproject.toml"
    settings.write_text(settings.read_text().replace('"conf"', f'"{elsewhere}"'))
    code, text = verb(project, "tolerances", "-e", "plain")
    assert (code, "the project has no config folder of its own; make one" in text) == (4, True)


def test_a_run_that_is_killed_while_an_arm_runs(project: Project) -> None:
    """Nothing keeps running, and what was compared is gone; the next run begins anew."""
    relate(project, "a")
    relate(project, "b", "{one: {}, two: {train.batch_size: 4}}", recipe="keep_slowly")
    command = [sys.executable, "-m", "pytest", "--environment=plain"]
    before = ["a[plain-plain-one]", "a[plain-plain-two]", "a[plain-plain]", "b[plain-plain-one]"]

    def hangs() -> bool:
        # The next arm may hang before the one before it has its record.
        hanging = list(project.root.glob(".tunematrix/**/hanging"))
        return bool(hanging) and len(project.records) == len(before)

    with project.started(command, WAIT="1") as process:
        project.wait_for(hangs)
        process.kill()
        process.wait()
        assert project.still_running(seconds=30) == []
    assert project.outcomes == dict.fromkeys(before, "passed")
    assert tensors(project) == ["b-plain-plain-one"]
    assert project.pytest("specs/b.yaml").code == 0
    assert project.records[-1]["outcome"] == "passed"


def test_a_bug_in_an_arm(project: Project) -> None:
    """The arm is an error, and the relation says that it is, not that the disk is full."""
    relate(project, "a", recipe="keep_oddly")
    project.option("quantizer", "plain", "theory: {}\n")
    oddly = project.root / "conf/recipe/keep_oddly.yaml"
    oddly.write_text(f"{oddly.read_text()}owes: [base, training]\n")
    assert project.pytest().code == 1
    record = project.record["a[plain-plain]"]
    assert record["outcome"] == "error"
    assert (
        "arm one (a[plain-plain-one]) error: the arm was started and didn't finish"
        in record["reason"]
    )


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
    assert project.outcomes == {"good[plain-plain]": "passed", "a[plain]": "unsupported"}
    run = project.pytest("-m", "probe")
    assert run.code == 1
    _, probe = [one for one in project.records if one["cell_id"] == "a[plain]"]
    assert (probe["outcome"], probe["axes"]["quantizer"]) == ("failed", "refused")
    assert "expected to fail (ValueError) and passed" in probe["reason"]
