"""Which known faults a set of versions has, and which ones a step enters or leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.project import read_project
from tunematrix.proof.releases.released import released_faults
from tunematrix.versions.released_faults import (
    FaultsMoved,
    ReleasedFault,
    State,
    moved_faults,
)

ACCUMULATED = ReleasedFault("https://example.org/1", "is summed", {"trl": ">=0.13,<0.14"})
ROUNDED = ReleasedFault("https://example.org/2", "is rounded", {"trl": "<0.14", "peft": "<1"})


@pytest.mark.parametrize(
    ("versions", "state"),
    [
        ({"trl": "0.13.0"}, "has"),
        ({"trl": "0.13.1"}, "has"),
        ({"TRL": "0.13.0", "torch": "2.13.0+cpu"}, "has"),
        ({"trl": "0.12.2"}, "free"),
        ({"trl": "0.14.0"}, "free"),
        ({"peft": "0.13.0"}, "free"),
        ({}, "free"),
    ],
)
def test_a_set_has_a_fault_by_its_versions(versions: dict[str, str], state: State) -> None:
    """Only of distributions that are there, whatever the spelling of their names."""
    assert ACCUMULATED.state(versions) == state


def test_what_nobody_tried_is_unknown() -> None:
    """Neither of the releases with the fault nor of those without; but what is absent is free."""
    seen = ReleasedFault("", "", {"trl": "==0.13.0"}, free={"trl": ">=0.15"})
    states = [seen.state({"trl": version}) for version in ("0.12", "0.13.0", "0.14", "0.15")]
    assert states == ["unknown", "has", "unknown", "free"]
    assert seen.state({"peft": "1"}) == "free"
    assert ReleasedFault("", "", {"trl": "==0.13.0"}, free={}).state({"trl": "1"}) == "unknown"


def test_all_distributions_must_be_there() -> None:
    """A fault of two that don't fit each other is none of either alone."""
    assert ROUNDED.state({"trl": "0.13.0", "peft": "0.14.0"}) == "has"
    assert ROUNDED.state({"trl": "0.13.0", "peft": "1.0"}) == "free"
    assert ROUNDED.state({"trl": "0.13.0"}) == "free"


def test_a_local_build_and_a_release_candidate_count() -> None:
    """What is installed is what it is."""
    early = ReleasedFault("", "", {"torch": "<2.14"})
    assert early.state({"torch": "2.13.0+cpu"}) == early.state({"torch": "2.13.0rc1"}) == "has"


def test_a_fault_is_entered_and_left() -> None:
    """By the versions on either side; a fault of both is neither."""
    faults = [ACCUMULATED, ROUNDED]
    old, new = {"trl": "0.12.0", "peft": "0.9"}, {"trl": "0.13.0", "peft": "0.9"}
    assert moved_faults(faults, old, new).entered == (ACCUMULATED,)
    assert moved_faults(faults, old, new).left == ()
    assert moved_faults(faults, new, {"trl": "1.0", "peft": "0.9"}).left == (ACCUMULATED, ROUNDED)
    assert moved_faults(faults, new, new) == moved_faults([], new, new)


def test_a_fault_that_the_old_set_may_have_is_doubtful() -> None:
    """It may be no change; one that the new set may have is not told."""
    seen = ReleasedFault("", "", {"trl": "==0.13.0"}, free={"trl": ">=0.15"})
    moved = moved_faults([seen], {"trl": "0.12.0"}, {"trl": "0.13.0"})
    assert moved == FaultsMoved(doubtful=(seen,))
    assert moved_faults([seen], {"trl": "0.13.0"}, {"trl": "0.14.0"}) == FaultsMoved()
    assert moved_faults([seen], {"trl": "0.15.0"}, {"trl": "0.14.0"}) == FaultsMoved()
    assert moved_faults([seen], {"trl": "0.15.0"}, {"trl": "0.13.0"}).entered == (seen,)


def test_several_entries_of_one_fault_are_one() -> None:
    """From one range that has it into another, nothing is entered or left."""
    later = ReleasedFault(ACCUMULATED.link, ACCUMULATED.shows, {"trl": "==0.15.0"})
    moved = moved_faults([ACCUMULATED, later], {"trl": "0.13.0"}, {"trl": "0.15.0"})
    assert moved.entered == moved.left == ()
    assert moved_faults([ACCUMULATED, later], {}, {"trl": "0.15.0"}).entered == (later,)


@pytest.mark.parametrize(
    ("before", "after", "entered", "left", "doubtful"),
    [
        # The very releases on both sides of rows of the table.
        ({"transformers": "4.45.2"}, {"transformers": "4.46.0"}, "pull/46204", "pull/34191", ""),
        ({"trl": "0.23.0"}, {"trl": "0.24.0"}, "", "pull/4081 pull/4170 pull/4201", ""),
        ({"trl": "0.18.1"}, {"trl": "0.18.2"}, "", "", ""),
        ({"trl": "0.27.0"}, {"trl": "0.28.0"}, "", "", "pull/5076"),
        ({"trl": "0.19.1"}, {"trl": "0.18.2"}, "pull/3538", "", ""),
        ({"torchao": "0.17.0"}, {"torchao": "0.18.0"}, "", "ao/releases utils.py", ""),
        ({"trl": "1.13.0"}, {"trl": "1.14.0"}, "", "", ""),
        (
            {"trl": "1.14.0"},
            {"trl": "1.15.0"},
            "trl/releases",
            "py#L1843 issues/7268",
            "",
        ),
        ({"transformers": "5.9.0"}, {"transformers": "5.10.0"}, "", "pull/46204", ""),
        ({"transformers": "5.23.0"}, {"transformers": "5.24.0"}, "", "", ""),
    ],
)
def test_the_shipped_table(
    before: dict[str, str], after: dict[str, str], entered: str, left: str, doubtful: str
) -> None:
    """Known faults are found by the releases of the rows, and by what is known of long ranges."""
    project = read_project(Path(__file__).parents[3], "cpu")
    faults = released_faults(project.groups, project.environment)
    moved = moved_faults(faults, before, after)
    told = ((entered, moved.entered), (left, moved.left), (doubtful, moved.doubtful))
    for names, found in told:
        assert len(found) == len(names.split())
        for name in names.split():
            assert any(fault.link.endswith(name) for fault in found)
