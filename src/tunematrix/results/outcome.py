"""From verdicts to an outcome, with known failures held strictly to what they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.events import Raised
from tunematrix.evidence.evidence import Evidence
from tunematrix.results.record import Outcome


@dataclass(frozen=True)
class Expected:
    """A failure that is known.

    Attributes:
        raises: class name of the exception the recipe must raise, or None.
        check: name of the check that must fail, or None; any failure will do if both are None.
        reason: why it fails; link: where that is tracked.
    """

    raises: str | None
    check: str | None
    reason: str
    link: str


def settle(
    verdicts: Sequence[Verdict], evidence: Evidence | None, expected: Sequence[Expected]
) -> tuple[Outcome, str]:
    """Return the outcome and its reason; a relation has no evidence of its own.

    A known failure takes every expectation, and no failure that none of them names.
    """
    if evidence is not None and evidence.exit.problem is not None:
        return "error", evidence.exit.problem
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    if not expected:
        return ("failed", reason(failed)) if failed else ("passed", "")
    names = " and ".join(_named(one) for one in expected)
    if not failed:
        return "failed", f"expected to fail ({names}) and passed: remove the expectation"
    excused = {one.check or "exit" for one in expected}
    as_named = {verdict.name for verdict in failed} == excused and all(
        _raised(one.raises, evidence) for one in expected if one.check is None
    )
    if as_named or any(one.check is None and one.raises is None for one in expected):
        return "known_failure", "; ".join(dict.fromkeys(one.reason for one in expected))
    return "failed", f"expected {names} and nothing else, got {reason(failed)}"


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


def _named(expected: Expected) -> str:
    return f"check {expected.check}" if expected.check else expected.raises or "any failure"
