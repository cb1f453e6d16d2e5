"""What became of each fault, and the score: pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Fate = Literal["detected", "missed", "unreached", "crashed", "broken"]
"""Detected: a cell that ended well fails a check on a measured value. Missed: something differs in
one that ended well, and no check fails. Crashed: cells that don't end well are all that differs.
Unreached: nothing that was measured or saved differs. Broken: the fault raised."""
FATES: tuple[Fate, ...] = get_args(Fate)

UNFITTED = "no check was written for them"
SUBTLE = "subtle: below 2 %"
LEAST_SHARE, LEAST_SHARE_IN_CLASS, LEAST_SHARE_SILENT = 0.95, 0.8, 0.9
"""What must be detected of all faults, of each class, and of those that the loss doesn't show."""


@dataclass(frozen=True)
class Finding:
    """What became of one fault.

    Attributes:
        id: of the fault; fault_class: what it breaks; summary: what it does.
        fate: see `Fate`; silent: whether the final loss stayed inside its bound throughout.
        by: the check or relation that noticed; where: in which cell or relation.
        measured, bound, unit: of that check.
        tried: the cells and relations it was entered in, in order; unusable: those that fail here
            without it, and so were passed over; reason: a crash's or a break's.
        seconds: all of them together.
        fitted, subtle: what the fault says of itself, see `Entry`.
    """

    id: str
    fault_class: str
    summary: str
    fate: Fate
    silent: bool
    by: str = ""
    where: str = ""
    measured: float | str | None = None
    bound: str = ""
    unit: str = ""
    tried: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    fitted: bool = False
    subtle: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether anything differed from the honest run."""
        return self.fate in ("detected", "missed", "crashed")

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """Return it from plain data."""
        return cls(**{**data, **{name: tuple(data[name]) for name in ("tried", "unusable")}})


@dataclass(frozen=True)
class Score:
    """How many of some faults were detected; those that crashed or broke don't count.

    Attributes:
        detected: how many; of: how many were tried and neither crashed nor broke.
    """

    detected: int
    of: int

    @property
    def share(self) -> float:
        """Of those that count; 1 where there is none."""
        return self.detected / self.of if self.of else 1.0


def score(findings: Sequence[Finding]) -> Score:
    """Return the score of some faults."""
    counted = [finding for finding in findings if finding.fate not in ("crashed", "broken")]
    return Score(sum(finding.fate == "detected" for finding in counted), len(counted))


def silent(findings: Sequence[Finding]) -> list[Finding]:
    """Return the faults under which the loss looked as it should."""
    judged = (finding for finding in findings if finding.fate in ("detected", "missed"))
    return [finding for finding in judged if finding.silent]


def parts(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return all faults, and those whose score says more than that of all."""
    return {
        "all": list(findings),
        UNFITTED: [finding for finding in findings if not finding.fitted],
        SUBTLE: [finding for finding in findings if finding.subtle],
    }


def noticed_by(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many were detected by each check or relation, most first."""
    return dict(Counter(finding.by for finding in findings if finding.by).most_common())


def by_class(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each class, in the order in which the classes first come."""
    classes: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        classes[finding.fault_class].append(finding)
    return dict(classes)


def shortfalls(findings: Sequence[Finding]) -> list[str]:
    """Say which promise of detection isn't kept; nothing where all are."""
    promises = [
        ("all", findings, LEAST_SHARE),
        ("the silent ones", silent(findings), LEAST_SHARE_SILENT),
    ]
    promises += [
        (f"class {name}", rows, LEAST_SHARE_IN_CLASS) for name, rows in by_class(findings).items()
    ]
    texts = []
    if findings and not score(findings).of:
        texts.append("nothing was measured: every fault crashed, or is broken")
    for name, rows, least in promises:
        part = score(rows)
        if part.share < least:
            texts.append(f"{part.detected} of {part.of} detected of {name}, {least:.0%} promised")
    return texts


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the content of `faults.json`."""
    ids = {fate: [finding.id for finding in findings if finding.fate == fate] for fate in FATES}
    quiet = silent(findings)
    _, unfitted, subtle = parts(findings).values()
    return {
        "total": len(findings),
        "detected": len(ids["detected"]),
        "silent": len(quiet),
        "silent_detected": score(quiet).detected,
        **{fate: ids[fate] for fate in FATES[1:]},
        "unfitted": _counts(unfitted),
        "subtle": _counts(subtle),
        "by_class": {
            name: {
                **_counts(rows),
                "reached": sum(finding.is_reached for finding in rows),
                "by": noticed_by(rows),
            }
            for name, rows in by_class(findings).items()
        },
        "findings": [finding.to_json() for finding in findings],
    }


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {"total": len(findings), "detected": score(findings).detected}
