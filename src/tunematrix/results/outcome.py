"""From verdicts to an outcome, with known failures held strictly to what they name."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.events import BrokenMeter, Raised
from tunematrix.evidence.evidence import Evidence
from tunematrix.results.record import Outcome


@dataclass(frozen=True)
class Expected:
    """A failure that is known.

    Attributes:
        raises: class name of the exception the recipe must raise, or None.
        check: name of the check that must fail, or None; any failure will do if both are None.
        reason: why it fails; link: where that is tracked.
        must: whether it has to happen; a fault of a release that is out never goes away, and
            doesn't show everywhere.
    """

    raises: str | None
    check: str | None
    reason: str
    link: str
    must: bool = True

    @property
    def shows_in(self) -> str:
        """The check that fails of it; of an exception, that of the exit."""
        return self.check or "exit"


class Settlement(NamedTuple):
    """What became of a cell or a relation.

    Attributes:
        outcome: in one word. reason: in a sentence; empty where it passed.
        link: where the failure is tracked, if it is known.
    """

    outcome: Outcome
    reason: str = ""
    link: str = ""


def settle(
    verdicts: Sequence[Verdict], evidence: Evidence | None, expected: Sequence[Expected]
) -> Settlement:
    """Return the outcome and its reason; a relation has no evidence of its own.

    A known failure takes every expectation that must hold, and no failure that none names.
    """
    if evidence is not None and evidence.exit.problem is not None:
        return Settlement("error", evidence.exit.problem)
    if evidence is not None and (broken := evidence.one(BrokenMeter)) is not None:
        return Settlement("error", broken.message)
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    owed = [one for one in expected if one.must]
    if not failed and not owed:
        return Settlement("passed")
    if not expected:
        return Settlement("failed", reason(failed))
    if not failed:
        names = " and ".join(map(_named, owed))
        text = f"expected to fail ({names}) and passed: remove the expectation"
        return Settlement("failed", text)
    if happened := _happened({verdict.name for verdict in failed}, evidence, expected):
        text = "; ".join(dict.fromkeys(one.reason for one in happened))
        return Settlement("known_failure", text, happened[0].link)
    names = " and ".join(dict.fromkeys(map(_named, expected)))
    # What no known failure names comes first: it is what is new.
    new = [verdict for verdict in failed if verdict.name not in {one.check for one in expected}]
    return Settlement("failed", f"expected {names} and nothing else, got {reason(new or failed)}")


def _happened(
    failed: Set[str], evidence: Evidence | None, expected: Sequence[Expected]
) -> Sequence[Expected]:
    """Return the expectations that what failed bears out; none if they don't explain it all."""
    if anything := [one for one in expected if one.check is None and one.raises is None]:
        return anything
    seen = [
        one
        for one in expected
        if one.shows_in in failed and (_crashed(one, evidence) or _raised(one.raises, evidence))
    ]
    # Where a release's fault ends the cell, what would have come later can't be asked for.
    ended = any(one.check is None and not one.must for one in seen)
    missing = [one for one in expected if one.must and one not in seen and not ended]
    return seen if {one.shows_in for one in seen} == failed and not missing else ()


def reason(failed: Sequence[Verdict]) -> str:
    """Say what failed first, and how much else did."""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{failed[0].name}: {failed[0].message}{more}"


def _raised(wanted: str | None, evidence: Evidence | None) -> bool:
    raised = None if evidence is None else evidence.one(Raised)
    return (
        evidence is not None
        and evidence.exit.code == 1
        and raised is not None
        and any(wanted in (name, name.rpartition(".")[2]) for name in raised.exception)
    )


def _crashed(expected: Expected, evidence: Evidence | None) -> bool:
    """Whether what a check says is what is known: a hang or an early end with 0 is no crash."""
    if expected.check != "exit" or evidence is None:
        return expected.check is not None
    return not evidence.exit.timed_out and evidence.exit.code != 0


def _named(expected: Expected) -> str:
    return f"check {expected.check}" if expected.check else expected.raises or "any failure"
