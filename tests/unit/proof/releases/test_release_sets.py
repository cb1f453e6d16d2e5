"""Sets of releases: the file, their pins, and the table of what runs over them came to."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tunematrix.errors import BadInput
from tunematrix.proof.releases.set_runs import PLACE, run_all, split, write_page
from tunematrix.proof.releases.sets import (
    KEPT,
    PINS,
    SETS,
    SetOutcomes,
    keep,
    outcomes_of,
    read_kept,
    read_sets,
    table,
)
from tunematrix.results.record import Record

ROOT = Path(__file__).parents[4]
FILE = """[requirements]
cpu = ["torch", "trl"]
mlx = ["mlx"]
[sets.old]
about = "as of | old"
python = "3.11"
[sets.new]
about = "newest"
python = "3.13"
environment = "mlx"
"""
RAN = SetOutcomes(
    date="2026-11-29",
    python="3.11.7",
    part="all",
    versions={"torch": "2.6.0", "trl": "0.16.0"},
    cells={"passed": 200, "known_failure": 2},
    relations={"passed": 60},
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two sets."""
    (tmp_path / PINS).mkdir(parents=True)
    (tmp_path / KEPT).parent.mkdir(parents=True)
    (tmp_path / SETS).write_text(FILE)
    for name in ("old", "new"):
        (tmp_path / PINS / f"{name}.txt").write_text("torch==2.6.0\n")
    return tmp_path


def test_the_sets_of_this_checkout() -> None:
    """At least six, each of which pins all that it is a resolution of."""
    sets = read_sets(ROOT)
    assert len(sets.named) >= 6
    for name in sets.named:
        lines = sets.pins(name).read_text(encoding="utf-8").splitlines()
        pinned = [Requirement(line) for line in lines]
        assert all(len(one.specifier) == 1 for one in pinned)
        wanted = {Requirement(line).name for line in sets.required(name)}
        assert wanted <= {one.name for one in pinned}, name
    files = {file.stem for file in (ROOT / PINS).iterdir()}
    assert files == {*sets.named}


def test_arguments(checkout: Path) -> None:
    """Sets come first; a misspelt one is refused before anything is built."""
    assert split(["old", "new", "-m", "smoke"]) == (["old", "new"], ["-m", "smoke"])
    assert split(["-k", "old"]) == ([], ["-k", "old"])
    with pytest.raises(BadInput, match="no set is called nwe; did you mean new"):
        run_all(checkout, ["nwe", "-m", "smoke"])


def test_chosen_sets(checkout: Path) -> None:
    """Those that are named; all where none is; a wrong name gets advice."""
    sets = read_sets(checkout)
    assert [*sets.chosen(["new"])] == ["new"]
    assert [*sets.chosen([])] == ["old", "new"]
    with pytest.raises(BadInput, match="no set is called od; did you mean old"):
        sets.chosen(["od"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'python = "3.11"',
            'python = "3"',
            r"sets\.old\.python: expected text that match",
        ),
        ('about = "newest"', 'abut = "newest"', r"sets\.new\.abut: is not a known key"),
        ("[requirements", "[[requirements", r"sets\.toml: "),
        ('= "mlx"', '= "mps"', r"sets\.toml: new: mps has no requirements; it can be cpu, mlx"),
        ("[sets.new]", "[sets.newer]", r"sets\.toml: newer has no pins; resolve them"),
    ],
)
def test_what_is_wrong(checkout: Path, old: str, new: str, said: str) -> None:
    """The file is named, and what to do."""
    (checkout / SETS).write_text(FILE.replace(old, new))
    with pytest.raises(BadInput, match=said):
        read_sets(checkout)


def test_what_a_run_came_to() -> None:
    """Cells and relations apart, and the releases that the table names."""

    def record(name: str, outcome: str, *arms: str) -> Record:
        return Record(
            run_id="20261129-120000-abcd",
            cell_id=name,
            spec="a.yaml",
            environment="cpu-yours",
            axes={},
            outcome=outcome,  # type: ignore[arg-type]
            machine={"python": "3.11.7"},
            arms=arms,
        )

    records = [record("a", "passed"), record("b", "failed"), record("c", "passed", "a", "b")]
    found = outcomes_of(records, {"torch": "2.6.0", "idna": "3"}, "smoke")
    assert (found.date, found.python, found.part, found.versions) == (
        "2026-11-29",
        "3.11.7",
        "smoke",
        {"torch": "2.6.0"},
    )
    assert found.cells == {"passed": 1, "failed": 1}
    assert found.relations == {"passed": 1}


def test_a_run_is_kept(checkout: Path) -> None:
    """In place of an earlier one over the same set, beside those over others."""
    keep(checkout, "old", RAN)
    keep(checkout, "new", RAN)
    keep(checkout, "old", RAN.model_copy(update={"date": "2027-01-01"}))
    kept = read_kept(checkout)
    assert {name: one.date for name, one in kept.items()} == {
        "new": "2026-11-29",
        "old": "2027-01-01",
    }
    (checkout / KEPT).write_text("{}}")
    with pytest.raises(BadInput, match=r"sets\.json is not .*; remove it"):
        read_kept(checkout)


def test_the_table(checkout: Path) -> None:
    """A line for each set, in the order of the file; one that hasn't run says so."""
    lines = table(read_sets(checkout), {"old": RAN}).splitlines()[2:]
    assert lines == [
        "| `old`: as of &#124; old | 3.11.7 | torch 2.6.0, trl 0.16.0 "
        "| all | 200 passed, 2 known failures | 60 passed | 2026-11-29 |",
        "| `new`: newest | 3.13 | – | not yet | – | – | – |",
    ]


def test_the_page(checkout: Path) -> None:
    """Only the table in its place is written."""
    page = checkout / "page.md"
    page.write_text(f"above\n<!-- {PLACE} -->\n<!-- /{PLACE} -->\nbelow\n")
    write_page(checkout, page)
    text = page.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "| `new`: newest |" in text


def test_the_page_of_this_checkout_is_what_was_kept() -> None:
    """Or it would say what nobody has measured."""
    text = (ROOT / "docs/releases.md").read_text(encoding="utf-8")
    assert table(read_sets(ROOT), read_kept(ROOT)) in text
