"""The set as it would become: uv resolves it, over wheels that are made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.environments import packing

from tunematrix.errors import BadInput
from tunematrix.results.record import Record
from tunematrix.versions.sets import Beneath, PackageSet
from tunematrix.versions.trials import Trial
from tunematrix.versions.upgrade import pins_text, read_wish, told_records, upgraded_set

if TYPE_CHECKING:
    from tests.unit.versions.conftest import Wheel

HAVE = {"wobble": "1.0", "tremble": "1.0", "pytest": "9.2.0"}
BELOW = Beneath(PackageSet(HAVE), frozenset({"pytest"}), ("wobble", "tremble"))
HELD = """
[[tool.tunematrix.held_back]]
requirement = "wobble<1.2"
reason = "it shakes"
link = "https://example.org"
"""


@pytest.fixture
def wheels(wheel: Wheel, tmp_path: Path) -> Path:
    """Two libraries in three releases each; a folder for a project."""
    for version in ("1.0", "1.1", "1.2"):
        wheel(version)
        packing.wheel(tmp_path / "wheels", "tremble", version)
    return tmp_path


@pytest.mark.parametrize(
    ("wishes", "becomes"),
    [
        ([], {"wobble": "1.2", "tremble": "1.2"}),
        (["wobble"], {"wobble": "1.2"}),
        (["wobble==1.1"], {"wobble": "1.1"}),
        (["wobble<1.2"], {"wobble": "1.1"}),
        (["Wobble==1.1", "tremble"], {"wobble": "1.1", "tremble": "1.2"}),
        (["wobble==1.0"], {}),
    ],
)
def test_what_it_becomes(wheels: Path, wishes: list[str], becomes: dict[str, str]) -> None:
    """The newest of what is named, or of everything; all else stays."""
    new = upgraded_set([read_wish(one) for one in wishes], BELOW, wheels)
    assert new.over(BELOW.packages) == becomes


def test_what_a_project_holds_back(wheels: Path) -> None:
    """Stays so where nothing is named, and comes where it is."""
    (wheels / "pyproject.toml").write_text(HELD)
    new = upgraded_set([], BELOW, wheels)
    assert new.over(BELOW.packages) == {"wobble": "1.1", "tremble": "1.2"}
    assert upgraded_set([read_wish("wobble")], BELOW, wheels).versions["wobble"] == "1.2"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("wobble==1.3", "wobble 1.3 isn't offered: .* such as 1.2"),
        ("wobble>=2", "No solution found"),
        ("quiver==1", "quiver was not found"),
        ("quiver", "quiver isn't in this set"),
        ("trembel", "did you mean tremble?"),
        ("pytest", "tunematrix itself runs on pytest"),
        ("pytest==1", "tunematrix itself runs on pytest"),
        ("wobble==1.1 Wobble==1.2", "wobble: is named more than once"),
    ],
)
def test_what_cannot_be(wheels: Path, wish: str, said: str) -> None:
    """The reason is uv's, or what is missing is named."""
    with pytest.raises(BadInput, match=said):
        upgraded_set([read_wish(one) for one in wish.split()], BELOW, wheels)


def test_pins_are_sorted_lines() -> None:
    """As pip reads them."""
    assert pins_text(BELOW.packages, ["wobble", "tremble"]) == "tremble==1.0\nwobble==1.0\n"


def test_a_record_of_other_versions_says_nothing() -> None:
    """Of a set that a process didn't find; a declared no says nothing either."""
    good = Record("1", "a[cpu]", "a.yaml", "cpu", {}, "passed", versions={"wobble": "1.0+cpu"})
    stray = replace(good, cell_id="b[cpu]", versions={"wobble": "1.1"})
    no = replace(good, cell_id="c[cpu]", outcome="unsupported")
    runs = {one.cell_id: (one,) for one in (good, stray, no)}
    records, notes = told_records(Trial(BELOW.packages, runs))
    assert records == [good]
    assert notes == ["b[cpu] ran with wobble 1.1 in place of 1.0, so it says nothing"]
