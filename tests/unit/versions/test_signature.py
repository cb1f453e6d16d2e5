"""How a cell ended, and what is wrong at one of two ends."""

from __future__ import annotations

import pytest

from tunematrix.results.record import Outcome
from tunematrix.versions.judging import Fault
from tunematrix.versions.signature import Signature


@pytest.mark.parametrize(
    ("outcome", "good"),
    [("passed", True), ("known_failure", False), ("failed", False), ("error", False)],
)
def test_what_is_good(outcome: Outcome, good: bool) -> None:
    """Only what nothing failed of; that a fault is known makes no release a good one."""
    assert Signature(outcome, () if good else ("first_loss",)).is_good is good


def test_a_known_fault_of_the_bad_end() -> None:
    """It is what is looked for, beside another that both ends have."""
    fault = Fault(
        bad=Signature("known_failure", ("first_loss", "merge")),
        good=Signature("known_failure", ("merge",)),
    )
    assert fault.is_clear
    assert fault.is_in(Signature("failed", ("first_loss",))) is True
    assert fault.is_in(Signature("known_failure", ("merge",))) is False
    assert fault.is_in(Signature("failed", ("labels",))) is None
