from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.project import read_project
from tunematrix.proof.releases.table import Regression, read_regressions

CPU = Environment("cpu", "", ("cpu",))
SPEC = """
test_id: small
recipe: sft
matrix: {method: [lora, full]}
known_failures:
  - {when: {method: full}, check: first_loss, reason: known, link: "https://example.org"}
"""
ROW = """
  - id: A1
    link: https://example.org/1
    shows: something
    bundles: [old]
    faulty: {trl: 0.13.0}
    fixed: {trl: 0.14.0}
    cells: ["small.yaml::small[cpu-full]"]
    expected: {check: labels}
"""
TABLE = f"bundles:\n  old: {{datasets: 4.1.1}}\nrows:{ROW}"

Read = Callable[..., tuple[Regression, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a table that lies in a config folder of its own, beside a spec."""

    def from_text(text: str, *wanted: str) -> tuple[Regression, ...]:
        folder = tmp_path / "regressions"
        folder.mkdir(exist_ok=True)
        (folder / "table.yaml").write_text(text)
        (folder / "small.yaml").write_text(SPEC)
        return read_regressions(read_groups([shipped_configs(), tmp_path]), CPU, wanted)

    return from_text


def test_the_shipped_rows() -> None:
    """All that is in the table can be planned, and what REGRESSIONS lists is there."""
    project = read_project(Path(__file__).parents[3], "cpu")
    rows = {r.row.id.partition("-")[0] for r in read_regressions(project.groups, CPU)}
    assert {"R1", "R3", "R4", "R6", "R7", "R8", "R12", "R16", "R18"} <= rows


def test_a_row(read: Read) -> None:
    """Bundles go with both sides, a cell is what pytest takes, and known failures are known."""
    (found,) = read(TABLE)
    assert found.faulty == {"datasets": "4.1.1", "trl": "0.13.0"}
    assert found.fixed == {"datasets": "4.1.1", "trl": "0.14.0"}
    (cell,) = found.cells
    assert cell.node.endswith("regressions/small.yaml::small[cpu-full]")
    assert Path(cell.node.partition("::")[0]).is_absolute()
    assert cell.excused == {"first_loss"}


def test_the_environment_as_it_is(read: Read) -> None:
    """A side that pins nothing takes no bundle either."""
    (found,) = read(TABLE.replace("fixed: {trl: 0.14.0}", "fixed: {}"))
    assert found.fixed == {}


def test_none_is_fixed(read: Read) -> None:
    """A fault of today has a control in place of a fixed side."""
    live = TABLE.replace("fixed: {trl: 0.14.0}", "fixed: none")
    with pytest.raises(BadInput, match=r"table\.yaml:9: rows\[0\]\.fixed: needs control"):
        read(live)
    control = '    control: ["small.yaml::small[cpu-lora]"]\n    expected'
    (found,) = read(live.replace("    expected", control))
    assert found.fixed is None and len(found.control) == 1


def test_chosen_rows(read: Read) -> None:
    """Only what is asked for is read; a name that isn't there gets advice."""
    two = TABLE + ROW.replace("A1", "A2")
    assert [one.row.id for one in read(two, "A2")] == ["A2"]
    with pytest.raises(BadInput, match="no regression is called A3; it can be A1, A2"):
        read(two, "A3")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trl: 0.13.0", "trl: 0.13", r":8: rows\[0\]\.faulty\.trl: expected text, got 0\.13"),
        ("trl: 0.13.0", 'trl: ">=0.13"', r":8: rows\[0\]\.faulty\.trl: expected text that match"),
        ("[old]", "[odl]", r":7: rows\[0\]\.bundles\[0\]: odl is not a bundle; did you mean old"),
        ("0.14.0", "0.13.0", r":9: rows\[0\]\.fixed: is the same as faulty"),
        (
            "[cpu-full]",
            "[cpu-ful]",
            r":10: rows\[0\]\.cells\[0\]: .*plans no small\[cpu-ful\]",
        ),
        ("small.yaml::", "smal.yaml::", r":10: rows\[0\]\.cells\[0\]: .* names no cell; write"),
        ("{check: labels}", "{raises: E}", r":11: rows\[0\]\.expected: give check alone, or"),
        ("{check: labels}", "{lacks: lables}", r":11: rows\[0\]\.expected\.lacks: .*labels"),
        ("{check: labels}", "{check: a, lacks: b}", r":11: rows\[0\]\.expected: give check alone"),
        ("{check: labels}", "{check: a, phase: b}", r":11: rows\[0\]\.expected: give check alone"),
        ("shows: something", "show: it", r":6: rows\[0\]\.show: is not a known key"),
        ("    shows: something\n", "", r"rows\[0\]\.shows: is missing"),
        (ROW, ROW + ROW, r":13: rows\[1\]\.id: A1 is there twice"),
    ],
)
def test_what_is_wrong(read: Read, old: str, new: str, said: str) -> None:
    """Each mistake is told with its file and line."""
    assert old in TABLE
    with pytest.raises(BadInput, match=said):
        read(TABLE.replace(old, new))


def test_what_is_known_of_many_releases(read: Read, tmp_path: Path) -> None:
    """Faults of releases that the shipped file knows, and those that a project's own adds."""
    text = """faults:
  - {link: "https://example.org/2", releases: {trl: "<0.20"}, checks: [labels], reason: r}
"""
    (tmp_path / "releases.yaml").write_text(text)
    (row,) = read(TABLE)
    assert row.known[-1].checks == ("labels",)
    assert len(row.known) > 1


def test_no_table(tmp_path: Path) -> None:
    """Where no config folder has one, it says where it was looked for."""
    groups = read_groups([shipped_configs()])
    (tmp_path / "empty").mkdir()
    groups = type(groups)(**{**vars(groups), "roots": (tmp_path / "empty",)})
    with pytest.raises(BadInput, match=r"there is no regressions/table\.yaml in .*empty"):
        read_regressions(groups, CPU)
