"""`tunematrix history`: what was recorded here and elsewhere, over time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb

HERE = {"system": "Linux", "hardware": "AMD EPYC"}


def recorded(project: Project, path: str, day: int, outcome: Outcome, peft: str = "0.21.1") -> None:
    """Write the record of one cell on one day."""
    run, why = f"202611{day:02}-080000-0000", "" if outcome == "passed" else "it broke"
    record = Record(run, "a[plain-lora]", "a.yaml", "plain", {}, outcome, why, machine=HERE)
    versions = {"torch": "2.13.0", "peft": peft}
    Store(project.root / path).append(
        Record.from_json({**record.to_json(), "versions": versions, "metrics": {"seconds": day}})
    )


@pytest.fixture
def past(project: Project) -> Project:
    """A project with two runs, and a file of a run elsewhere."""
    recorded(project, ".tunematrix/plain/results.jsonl", 1, "passed")
    recorded(project, ".tunematrix/plain/results.jsonl", 3, "failed", "0.21.2")
    recorded(project, "other.jsonl", 2, "passed")
    return project


def test_runs_of_here_and_elsewhere(past: Project, verb: Verb) -> None:
    """What was added stays; what the project records comes by itself, each once."""
    code, text = verb(past, "history", "--add", "other.jsonl")
    assert code == 0 and "3 new records, 0 known already" in text
    recorded(past, ".tunematrix/plain/results.jsonl", 4, "passed")
    for _ in range(2):
        code, text = verb(past, "history", "--json")
        runs = json.loads(text)
        assert [run["run_id"][6:8] for run in runs] == ["01", "02", "03", "04"]
        assert [run["cells"] for run in runs][1:3] == [{"passed": 1}, {"failed": 1}]


def test_how_a_cell_has_fared(past: Project, verb: Verb) -> None:
    """When it passed last, and what has changed since."""
    verb(past, "history", "--add", "other.jsonl")
    code, text = verb(past, "history", "a[plain", "-e", "plain")
    assert code == 0
    assert "  passed   2 times, 2026-11-01 08:00 to 2026-11-02 08:00\n" in text
    assert "  since then: peft 0.21.1 → 0.21.2\n" in text
    assert "  it passed last on 2026-11-02 08:00 with torch 2.13.0, peft 0.21.1\n" in text
    (thread,) = json.loads(verb(past, "history", "a[plain", "--json")[1])
    assert [one["outcome"] for one in thread["stretches"]] == ["passed", "failed"]


def test_two_runs(past: Project, verb: Verb) -> None:
    """By the beginnings of their ids."""
    code, text = verb(past, "history", "--between", "20261101", "20261103")
    assert code == 0
    assert "  peft 0.21.1 → 0.21.2\n" in text and "✓ → ✗  a[plain-lora]\n  it broke\n" in text
    assert "0 of 1 cells and relations ended alike\n" in text
    compared = json.loads(verb(past, "history", "--between", "20261101", "20261103", "--json")[1])
    assert compared["flips"][0]["after"] == "failed"


def test_records_go_out_and_in(past: Project, verb: Verb) -> None:
    """What is exported is what others can add, and show."""
    code, text = verb(past, "history", "--export", "all.jsonl")
    assert code == 0 and "2 records are in all.jsonl" in text
    code, text = verb(past, "history", "--store", "new.sqlite", "--add", "all.jsonl")
    assert code == 0 and "0 known already" not in text and "known already" in text
    assert verb(past, "report", "all.jsonl")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--add", "nothing.jsonl"], 4, "there is no file nothing.jsonl"),
        (["--add", "pyproject.toml"], 4, "pyproject.toml:1: not a record"),
        (["--store", "pyproject.toml"], 4, "pyproject.toml is no history"),
        (["b[other]"], 5, "no record of a cell with b[other] in its id; it can be a[plain-lora]"),
        (["-e", "gpu"], 5, "there is no record of gpu yet"),
        (["--between", "20261101", "20270101"], 4, "no run is called 20270101"),
        (["--between", "2026110", "20261103"], 4, "give the whole id"),
        (["--export", "nowhere/all.jsonl"], 6, "can't write nowhere/all.jsonl"),
    ],
)
def test_what_cannot_be_done(
    past: Project, verb: Verb, arguments: list[str], code: int, words: str
) -> None:
    """A message says what, and what to do."""
    got, text = verb(past, "history", *arguments)
    assert (got, words in " ".join(text.split())) == (code, True), text


def test_nothing_recorded_yet(project: Project, verb: Verb) -> None:
    """It says how to begin."""
    code, text = verb(project, "history")
    assert (code, "run nox -s cpu" in text) == (5, True)
