from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.configuration.releases import FaultOfReleases
from tunematrix.proof.releases.table import Symptom
from tunematrix.proof.releases.verdicts import Seen, decide


def failing(check: str, measured: float | None, unit: str = "") -> Seen:
    """A cell that ran to its end, and failed a check."""
    return Seen("cell", ended=True, failed=(Verdict(check, "failed", measured, None, unit, ""),))


SILENT = Symptom(check="labels")
LACKS = Symptom(lacks="labels")
LOUD = Symptom(raises="TypeError", phase="attach")

GOOD = Seen("cell", ended=True)
WRONG = failing("labels", 0.5, "share of rows")
OTHER = failing("first_loss", 0.02)
BLIND = failing("labels", None)
UNKNOWN = failing("labels", math.nan)
CRASHED = Seen("cell", ended=False, raised=("ImportError",), problem="ImportError: no name")
RAISED = Seen("cell", ended=False, raised=("own.Odd", "TypeError"), phase="attach")
LATE = Seen("cell", ended=False, raised=("TypeError",), phase="train", problem="TypeError")
LACKING = Seen("cell", ended=False, problem="needs hqq", unavailable=True)


@pytest.mark.parametrize(
    ("expected", "faulty", "fixed", "observed"),
    [
        (SILENT, WRONG, GOOD, "detected"),
        (SILENT, GOOD, GOOD, "missed"),
        (SILENT, OTHER, GOOD, "missed"),
        (SILENT, BLIND, GOOD, "broken"),
        (SILENT, UNKNOWN, GOOD, "broken"),
        (SILENT, CRASHED, GOOD, "broken"),
        (SILENT, WRONG, CRASHED, "broken"),
        (SILENT, WRONG, OTHER, "false alarm"),
        (SILENT, GOOD, OTHER, "missed"),
        (SILENT, LACKING, GOOD, "unavailable"),
        (LACKS, BLIND, GOOD, "detected"),
        (LACKS, WRONG, GOOD, "broken"),
        (LACKS, UNKNOWN, GOOD, "broken"),
        (LACKS, GOOD, GOOD, "missed"),
        (LACKS, OTHER, GOOD, "missed"),
        (LACKS, CRASHED, GOOD, "broken"),
        (LACKS, BLIND, BLIND, "false alarm"),
        (LOUD, RAISED, GOOD, "detected"),
        (LOUD, LATE, GOOD, "broken"),
        (LOUD, CRASHED, GOOD, "broken"),
        (LOUD, GOOD, GOOD, "missed"),
        (LOUD, WRONG, GOOD, "missed"),
        (LOUD, RAISED, WRONG, "false alarm"),
    ],
)
def test_both_sides(expected: Symptom, faulty: Seen, fixed: Seen, observed: str) -> None:
    """A crash elsewhere is no detection, and a failure on the mended side no success."""
    decision = decide(expected, [faulty], [fixed])
    assert decision.observed == observed
    assert bool(decision.reason) == (observed != "detected")


def test_every_cell_has_to_notice() -> None:
    """One of two cells that sees nothing makes it missed."""
    assert decide(SILENT, [WRONG, GOOD], []).observed == "missed"


def test_what_noticed() -> None:
    """The figure goes with the check, the phase with the exception."""
    assert decide(SILENT, [WRONG], []).check == "labels 0.5 share of rows"
    assert decide(LOUD, [RAISED], []).check == "TypeError in attach"
    assert decide(LACKS, [BLIND], []).check == "labels nothing"


def test_a_control_must_pass() -> None:
    """Where nothing is mended, what fails everywhere says nothing."""
    assert decide(SILENT, [WRONG], [], [GOOD]).observed == "detected"
    assert decide(SILENT, [WRONG], [], [OTHER]).observed == "false alarm"
    assert decide(SILENT, [WRONG], [], [CRASHED]).observed == "broken"


def test_known_failures() -> None:
    """What a spec knows to fail is no false alarm; on the faulty side it is what has to fail."""
    known = Seen("cell", ended=True, failed=WRONG.failed, excused=frozenset({"labels"}))
    assert decide(SILENT, [known], [known]).observed == "detected"


def test_no_cell() -> None:
    """Nothing was run, so nothing was noticed."""
    assert decide(SILENT, [], []).observed == "broken"


KNOWN = FaultOfReleases.model_validate(
    {
        "link": "https://example.org/1",
        "releases": {"transformers": ">=4.46,<5.10"},
        "checks": ["first_loss", "labels"],
        "when": {"method": "lora"},
        "reason": "a loss that is too low",
    }
)


@pytest.mark.parametrize(
    ("version", "observed"),
    [
        ("4.50.3", "detected"),
        ("4.46.0", "detected"),
        ("5.10.0", "false alarm"),
        ("4.45.2", "false alarm"),
        (None, "false alarm"),
    ],
)
def test_a_fault_that_is_known_of_these_releases(version: str | None, observed: str) -> None:
    """It may show on the good side of a row about another."""
    versions = {"transformers": version} if version else {}
    fixed = Seen("cell", True, OTHER.failed, versions=versions, place={"method": "lora"})
    assert decide(SILENT, [WRONG], [fixed], known=[KNOWN]).observed == observed
    elsewhere = replace(fixed, place={"method": "full"})
    assert decide(SILENT, [WRONG], [elsewhere], known=[KNOWN]).observed == "false alarm"


def test_the_expected_check_is_never_excused() -> None:
    """What has to see the fault has to pass without it."""
    versions = {"transformers": "4.50.3"}
    fixed = Seen("cell", True, WRONG.failed, versions=versions, place={"method": "lora"})
    assert decide(SILENT, [WRONG], [fixed], known=[KNOWN]).observed == "false alarm"
