"""From verdicts to an outcome, with known failures held strictly to what they name."""

from __future__ import annotations

from dataclasses import dataclass

from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.events import Raised
from tunematrix.results.record import Outcome


@dataclass(frozen=True)
class Expected:
    """A failure that is known.

    Attributes:
        raises: class name of the exception the recipe must raise, or None.
        check: name of the check that must fail, or None.
        reason: why it fails; link: where that is tracked.
    """

    raises: str | None
    check: str | None
    reason: str
    link: str


def settle(
    verdicts: tuple[Verdict, ...], evidence: Evidence, expected: Expected | None
) -> tuple[Outcome, str]:
    """Return the outcome and its reason."""
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    if expected is None:
        return ("failed", reason(failed)) if failed else ("passed", "")
    if not failed:
        return "failed", f"expected to fail ({_named(expected)}) and passed: remove the expectation"
    if _met(expected, failed, evidence):
        return "known_failure", expected.reason
    return "failed", f"expected {_named(expected)}, got another failure: {reason(failed)}"


def reason(failed: list[Verdict]) -> str:
    """Say what failed first, and how much else did."""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{failed[0].name}: {failed[0].message}{more}"


def _met(expected: Expected, failed: list[Verdict], evidence: Evidence) -> bool:
    names = {verdict.name for verdict in failed}
    if expected.check is not None:
        return expected.check in names
    raised = evidence.one(Raised)
    return (
        "exit" in names
        and evidence.exit.code == 1
        and raised is not None
        and any(name.rpartition(".")[2] == expected.raises for name in raised.exception)
    )


def _named(expected: Expected) -> str:
    return f"check {expected.check}" if expected.check else str(expected.raises)
