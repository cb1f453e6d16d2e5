from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.results.record import Outcome
from tunematrix.versions.judging import Fault
from tunematrix.versions.signature import Signature


def _ends(*checks: str, raised: str = "", outcome: Outcome = "failed") -> Signature:
    return Signature(outcome, checks, raised)


GOOD = Signature("passed")
LOSS, BOTH, LABELS = _ends("loss"), _ends("labels", "loss"), _ends("labels")
RAISES = _ends("exit", raised="TypeError in load")
OTHER = _ends("exit", raised="ImportError in load")
KILLED = _ends("exit")


@pytest.mark.parametrize(
    ("bad", "good", "seen", "expected"),
    [
        (LOSS, GOOD, LOSS, True),
        (LOSS, GOOD, BOTH, True),
        (BOTH, GOOD, LOSS, True),
        (LOSS, GOOD, LABELS, None),
        (LOSS, GOOD, RAISES, None),
        (RAISES, GOOD, RAISES, True),
        (RAISES, GOOD, OTHER, None),
        (RAISES, GOOD, KILLED, None),
        (RAISES, GOOD, LOSS, None),
        (BOTH, LOSS, LABELS, True),
        (BOTH, LOSS, LOSS, False),
        (LABELS, LOSS, LOSS, False),
        (RAISES, LOSS, LOSS, False),
        (RAISES, BOTH, LOSS, False),
        (KILLED, GOOD, KILLED, True),
    ],
)
def test_which_end_it_is_like(
    bad: Signature, good: Signature, seen: Signature, expected: bool | None
) -> None:
    """The bad end's own failure is bad, what the good end shows too is good, the rest neither."""
    assert Fault(bad, good).is_in(seen) is expected


def test_a_check_that_passed() -> None:
    """Where what fails at the bad end was judged and passed, another failure doesn't matter."""
    passed = frozenset(["labels", "loss"])
    other = Signature("failed", ("merge",), passed=passed)
    assert Fault(BOTH, GOOD).is_in(other) is False
    assert Fault(BOTH, GOOD).is_in(replace(other, passed=frozenset(["loss"]))) is None
    assert Fault(RAISES, GOOD).is_in(other) is None
    assert Fault(BOTH, GOOD).is_in(replace(other, raised="OSError in train")) is None


def test_only_some_of_the_checks() -> None:
    """Of several that fail at the bad end, those decide that are looked at."""
    fault = Fault(BOTH, GOOD, only=frozenset(["labels"]))
    assert fault.is_in(LABELS) is True
    assert fault.is_in(replace(LOSS, passed=frozenset(["labels"]))) is False


@pytest.mark.parametrize(
    ("bad", "good", "is_clear"),
    [
        (LOSS, GOOD, True),
        (LOSS, LABELS, True),
        (BOTH, LOSS, True),
        (RAISES, LOSS, True),
        (LOSS, BOTH, False),
        (LOSS, LOSS, False),
        (LOSS, OTHER, False),
        (RAISES, OTHER, False),
    ],
)
def test_a_good_end_that_fails_otherwise(bad: Signature, good: Signature, is_clear: bool) -> None:
    """It will do if it shows that the bad end's failure isn't there; one that raises doesn't."""
    assert Fault(bad, good).is_clear is is_clear
