"""`tunematrix regressions` as a user runs it, over releases of a library that is made here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.relating import relate
from tests.unit.versions.conftest import make_wheel

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

pytestmark = pytest.mark.slow

HERE = "--environment=plain"
GOOD = "def load():\n    pass\n"
WORDY = "import sys\ndef load():\n    print('wobbling', file=sys.stderr)\n"
RAISING = "def load():\n    raise TypeError('wobble')\n"
BENT = "raise ImportError('no name')\n"

HEAD = "  - id: {}\n    link: https://example.org/{}\n    shows: something\n    cells: ['{}']\n"
CELL = "../../specs/quiet.yaml::quiet[plain-plain]"
PAIR = "../../specs/pair.yaml::pair[plain-plain]"
ROWS = {
    "silent": "{faulty: {wobble: 1.1}, fixed: {wobble: 1.0}, expected: {check: stderr}}",
    "loud": "{faulty: {wobble: 1.2}, fixed: {wobble: 1.0},"
    " expected: {raises: TypeError, phase: load}}",
    "arm": "{faulty: {wobble: 1.2}, fixed: {wobble: 1.0},"
    " expected: {raises: TypeError, phase: load}}",
    "missed": "{faulty: {wobble: 1.0}, fixed: {}, expected: {check: stderr}}",
    "alarm": "{faulty: {wobble: 1.2}, fixed: {wobble: 1.1},"
    " expected: {raises: TypeError, phase: load}}",
    "broken": "{faulty: {wobble: 1.3}, fixed: {wobble: 1.0}, expected: {check: stderr}}",
    "absent": "{faulty: {wobble: 9.9}, fixed: {wobble: 1.0}, expected: {check: stderr}}",
}


def _table(*rows: str) -> str:
    text = "rows:\n"
    for row in rows:
        entries = ROWS[row].removeprefix("{").removesuffix("}")
        sides, expected = entries.split(" expected: ")
        faulty, fixed = sides.rstrip(", ").split(", fixed: ")
        text += HEAD.format(row, row, PAIR if row == "arm" else CELL)
        text += f"    {_quoted(faulty)}\n    fixed: {_quoted(fixed)}\n    expected: {expected}\n"
    return text


def _quoted(pins: str) -> str:
    """Quote versions of two numbers, which YAML takes for one."""
    name, _, version = pins.partition("wobble: ")
    return f'{name}wobble: "{version[:-1]}"}}' if version else pins


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """All rows of the table, in one run."""
    project = new_project()
    for version, text in {"1.0": GOOD, "1.1": WORDY, "1.2": RAISING, "1.3": BENT}.items():
        make_wheel(project.root / "wheels", version, text)
    project.variables["PIP_NO_INDEX"] = "1"
    project.variables["PIP_FIND_LINKS"] = str(project.root / "wheels")
    project.spec("quiet", "lean_on_wobble", "stderr: {forbidden_patterns: [wobbling]}\n")
    relate(project, "pair", recipe="keep_over_wobble")
    project.write("conf/regressions/table.yaml", _table(*ROWS))
    return project, project.tunematrix("regressions", HERE)


def _rows(project: Project) -> dict[str, dict[str, Any]]:
    found = json.loads((project.root / ".tunematrix/regressions.json").read_text())
    return {row["id"]: row for row in found["rows"]}


def test_what_was_observed(ran: tuple[Project, Run]) -> None:
    """Each row comes to what its releases do; one that isn't detected decides the exit code."""
    rows = _rows(ran[0])
    assert {name: row["observed"] for name, row in rows.items()} == {
        "silent": "detected",
        "loud": "detected",
        "arm": "detected",  # of a relation, an arm raises
        "missed": "broken",  # the environment as it is has no such library
        "alarm": "false alarm",
        "broken": "broken",
        "absent": "unavailable",
    }
    assert ran[1].code == 1


def test_what_is_written_down(ran: tuple[Project, Run]) -> None:
    """Pins of both sides, what was expected, what noticed, and how long it took."""
    row = _rows(ran[0])["silent"]
    assert row["packages"] == {"faulty": {"wobble": "1.1"}, "fixed": {"wobble": "1.0"}}
    assert row["expected"] == {"check": "stderr"}
    assert row["check"] == "stderr 1 patterns"
    assert row["seconds"] > 0 and row["reason"] == ""


def test_reasons(ran: tuple[Project, Run]) -> None:
    """The installer's own words, and the exception that was no detection, are shown."""
    rows = _rows(ran[0])
    assert "9.9" in rows["absent"]["reason"]
    assert "ImportError" in rows["broken"]["reason"]
    assert "stderr 1 patterns failed" in rows["alarm"]["reason"]
    assert "3 detected" in ran[1].text and "of 7" in ran[1].text


def test_records_of_their_own(ran: tuple[Project, Run]) -> None:
    """What ran with other releases isn't among the project's records."""
    state = ran[0].root / ".tunematrix"
    assert not (state / "plain").exists()
    assert len(list(state.glob("regressions/*/plain/results.jsonl"))) == 5


@pytest.mark.nightly
def test_chosen_rows(ran: tuple[Project, Run]) -> None:
    """Rows that are named run alone; overlays are there already; all detected ends with 0."""
    project, _ = ran
    run = project.tunematrix("regressions", HERE, "silent", "loud", "--json")
    assert run.code == 0
    assert "installing" not in run.text
    assert set(_rows(project)) == {"silent", "loud"}


@pytest.mark.nightly
def test_nothing_but_unavailable(ran: tuple[Project, Run]) -> None:
    """Where the only trouble is that an overlay can't be installed, the machine is to blame."""
    run = ran[0].tunematrix("regressions", HERE, "silent", "absent")
    assert run.code == 6
    assert "can't be installed" in run.text


def test_no_such_row(ran: tuple[Project, Run]) -> None:
    """A name that isn't there is bad input."""
    run = ran[0].tunematrix("regressions", HERE, "lowd")
    assert (run.code, "did you mean loud?" in run.text) == (4, True)
