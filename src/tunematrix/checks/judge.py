"""Evidence and a claim → verdicts: of the process, the recipe's groups, and the spec's bounds."""

from __future__ import annotations

from collections.abc import Iterable

from tunematrix.checks.registry import PROCESS, Check, registry
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration.cell import WATCH
from tunematrix.evidence.evidence import Evidence


def judge(evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    """Return every verdict; a run that didn't reach its end is judged by how it ended alone."""
    known = registry()
    verdicts = judge_group(PROCESS, evidence, claim)
    if verdicts[0].outcome == "failed":
        # What was seen of training until then is evidence all the same.
        trained = claim.config.watch is not None and any(
            one.has_stepped for one in evidence.watched
        )
        return verdicts + (judge_group(WATCH, evidence, claim) if trained else ())
    owed = [check for group in claim.config.owes for check in known.in_group(group)]
    bounded = [check for check in known.checks.values() if check.is_asked_by(claim)]
    left = (check for check in dict.fromkeys((*owed, *bounded)) if check.group != PROCESS)
    return verdicts + _verdicts(left, evidence, claim)


def judge_group(group: str, evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    """Return the verdicts of one group of checks."""
    return _verdicts(registry().in_group(group), evidence, claim)


def _verdicts(checks: Iterable[Check], evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    judged = (check(evidence, claim) for check in checks)
    return tuple(verdict for verdict in judged if verdict is not None)
