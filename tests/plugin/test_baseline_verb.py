"""`tunematrix baseline`: from runs under seeds to a warning at the end of a run that drifted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.plugin.test_command import SPEC, commit, install
from tests.plugin.test_report_html import shown

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb

RECIPE = """
import os
import random

from tunematrix.evidence.events import Determinants, Evaluation, Memory


def drift(config, events, output_dir):
    '''Ends with a loss that depends on the seed, and on what is planted.'''
    loss = random.Random(config.train.seed).gauss(0.5, 0.02) * float(os.environ.get("LOSS", "1"))
    size = 50_000_000 + os.getpid() % 7 * 100_000
    events.write(Determinants({"seed": config.train.seed}))
    events.write(Evaluation("before", 3.0, 0.1))
    events.write(Evaluation("after", loss, 0.1))
    events.write(Memory("process_peak", int(size * float(os.environ.get("SIZE", "1"))), "VmHWM"))
    assert "BREAK" not in os.environ
"""
FILE = "conf/baselines/plain"


@pytest.fixture
def drifting(project: Project) -> Project:
    """A project with two cells that train."""
    project.write("drifting.py", RECIPE)
    target = "{_target_: drifting.drift, _partial_: true}"
    project.option("recipe", "drift", f"implementation: {target}\n")
    project.spec("a", "drift", quantizers="[plain, tiny-int4]")
    return project


def test_the_whole_way(drifting: Project, verb: Verb) -> None:
    """Runs under seeds, a baseline, an honest run, drift inside all bounds, and a new baseline."""
    code, text = verb(drifting, "baseline", "record", "-e", "plain")
    assert (code, "has no record yet" in text) == (5, True)
    commit(drifting)
    run = drifting.tunematrix("baseline", "record", "-e", "plain", "--seeds", "20", "-q")
    assert run.code == 0, run.text
    assert "2 cells recorded in conf/baselines/plain/" in run.text
    (file,) = (drifting.root / FILE).glob("*.yaml")
    first = file.read_text()
    code, text = verb(drifting, "baseline", "diff", "-e", "plain")
    assert (code, "these runs give the bands that are recorded" in text) == (0, True)

    run = drifting.pytest()
    assert run.code == 0 and "drift: " not in run.text and "not held" not in run.text
    run = drifting.pytest("-k", "tiny", LOSS="1.15", SIZE="2")
    assert run.code == 0
    lines = [line for line in run.text.splitlines() if line.startswith("drift: ")]
    assert len(lines) == 2
    assert lines[0].startswith("drift: a[plain-tiny-int4] heldout_loss 0.5188 → 0.5967 nats/token")
    assert "as under seed 0 before" in lines[0]
    assert "process_peak_mb" in lines[1] and "MB, band " in lines[1]
    checks = {one["name"]: one for one in drifting.records[-1]["checks"]}
    assert checks["baseline_heldout_loss"]["outcome"] == "warned"
    written = drifting.root / ".tunematrix/plain/report.html"
    verb(drifting, "report", "-e", "plain", "--html", "page.html")
    for page in (written, drifting.root / "page.html"):
        (cell,) = (one for one in shown(page)["cells"] if one["id"] == "a[plain-tiny-int4]")
        assert {"heldout_loss", "process_peak_mb"} <= set(cell["bands"])

    margin = ("--margin", "0.05", "-e", "plain")
    code, text = verb(drifting, "baseline", "diff", *margin)
    assert code == 0 and "a[plain-tiny-int4]\n  narrower  heldout_loss 0.4995 (" in text
    assert json.loads(verb(drifting, "baseline", "diff", *margin, "--json")[1])
    code, text = verb(drifting, "baseline", "update", "a[plain-tiny-int4]", *margin)
    assert (code, "1 cell replaced in conf/baselines" in text) == (0, True)
    assert "kind: margin" in file.read_text() and "kind: margin" not in first
    run = drifting.pytest("-k", "tiny", "--strict-baseline")
    assert run.code == 1 and "FAILED specs/a.yaml::a[plain-tiny-int4] - baseline_" in run.text
    assert "--strict-baseline" in run.text.partition("= tunematrix ")[2]


def test_what_is_refused(drifting: Project, verb: Verb) -> None:
    """A tree that isn't as committed, cells that there aren't, options that make no sense."""
    commit(drifting)
    drifting.write(
        "specs/b.yaml", (drifting.root / "specs/a.yaml").read_text().replace("a", "b", 1)
    )
    drifting.pytest("specs/a.yaml")
    for arguments, words in (
        (["record", "--margin", "0.25"], "its code was not as committed; commit what is new"),
        (["record"], "its runs have no seed of their own"),
        (["record", "--margin", "-1"], "expected a share above 0"),
        (["record", "--coverage", "99"], "expected a share between 0 and 1"),
        (["record", "-m", "smoke"], "only a run takes that; add --seeds 20"),
        (["update", "a[plain]"], "these runs have no cell a[plain]; did you mean a[plain-plain]"),
        (["record", "--from", "no.jsonl"], "there is no file no.jsonl"),
    ):
        code, text = verb(drifting, "baseline", *arguments, "-e", "plain")
        assert (code, words in " ".join(text.split())) == (4, True), (arguments, text)
    run = drifting.tunematrix(
        *("baseline", "record", "-e", "plain", "--seeds", "1", "-k", "nothing")
    )
    assert run.code == 1 and "no baseline is recorded: the run ended with exit code 5" in run.text
    assert not (drifting.root / FILE).exists()


@pytest.mark.nightly
def test_a_flaky_cell(drifting: Project, verb: Verb) -> None:
    """It flips with nothing changed, and is named; with its code changed, it isn't."""
    commit(drifting)
    assert drifting.pytest("-k", "tiny").code == 0
    run = drifting.pytest("-k", "tiny", BREAK="1")
    assert run.code == 1
    (line,) = [line for line in run.text.splitlines() if line.startswith("flaky: ")]
    assert line.startswith("flaky: a[plain-tiny-int4] failed, and passed in run ")
    _, text = verb(drifting, "history", "a[plain-tiny")
    assert "flaky: its outcome flipped once though nothing recorded had changed" in text
    drifting.write("drifting.py", f"{RECIPE}\n# repaired\n")
    assert "flaky: " not in drifting.pytest("-k", "tiny").text


def test_a_trainer_of_ones_own(project: Project, verb: Verb) -> None:
    """One run and a margin; then its script changes, and its loss drifts below the spec's bound."""
    project.write(
        "specs/toy.yaml", SPEC.format(name="toy", way="honest", steps=8) + "trainer: toy\n"
    )
    install(project)
    assert project.pytest().code == 0
    code, text = verb(project, "baseline", "record", "-e", "plain", "--margin", "0.25")
    assert (code, "1 cell recorded in conf/baselines/plain/" in text) == (0, True), text
    script = project.root / "examples/toy/train.py"
    before = script.read_text()
    for share, drifts in (("1.05", 0), ("1.6", 1)):
        script.write_text(before.replace('"loss": loss,', f'"loss": loss * {share},'))
        run = project.pytest()
        lines = [line for line in run.text.splitlines() if line.startswith("drift: ")]
        assert run.code == 0 and len(lines) == drifts, run.text
    assert lines[0].startswith("drift: toy[plain] logged_loss ")
