from __future__ import annotations

import pytest

from tunematrix.regressions.table import Expected
from tunematrix.regressions.verdicts import Failed, Seen, decide

SILENT = Expected(check="labels")
LOUD = Expected(raises="TypeError", phase="attach")

GOOD = Seen("cell", ended=True)
WRONG = Seen("cell", ended=True, failed=(Failed("labels", 0.5, "share of rows"),))
OTHER = Seen("cell", ended=True, failed=(Failed("first_loss", 0.02),))
BLIND = Seen("cell", ended=True, failed=(Failed("labels", None),))
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
        (SILENT, CRASHED, GOOD, "broken"),
        (SILENT, WRONG, CRASHED, "broken"),
        (SILENT, WRONG, OTHER, "false alarm"),
        (SILENT, GOOD, OTHER, "missed"),
        (SILENT, LACKING, GOOD, "unavailable"),
        (LOUD, RAISED, GOOD, "detected"),
        (LOUD, LATE, GOOD, "broken"),
        (LOUD, CRASHED, GOOD, "broken"),
        (LOUD, GOOD, GOOD, "missed"),
        (LOUD, WRONG, GOOD, "missed"),
        (LOUD, RAISED, WRONG, "false alarm"),
    ],
)
def test_both_sides(expected: Expected, faulty: Seen, fixed: Seen, observed: str) -> None:
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
