"""What became of each fault, and the score: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Fate = Literal["detected", "missed", "unreached", "crashed", "broken"]
"""Detected: a cell that ended well fails a check on a measured value. Missed: something differs in
one that ended well, and no check fails. Crashed: cells that don't end well are all that differs.
Unreached: nothing that was measured or saved differs. Broken: the fault raised."""
FATES: tuple[Fate, ...] = get_args(Fate)

OF_ALL, OF_A_CLASS, OF_SILENT = 0.95, 0.8, 0.9
"""The shares that must be detected."""


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
    counted = [one for one in findings if one.fate not in ("crashed", "broken")]
    return Score(sum(one.fate == "detected" for one in counted), len(counted))


def silent(findings: Sequence[Finding]) -> list[Finding]:
    """Return the faults under which the loss looked as it should."""
    return [one for one in findings if one.silent and one.fate in ("detected", "missed")]


def by_class(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each class, in the order in which the classes first come."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        found[one.fault_class].append(one)
    return dict(found)


def shortfalls(findings: Sequence[Finding]) -> list[str]:
    """Say which promise of detection isn't kept; nothing where all are."""
    parts = [("all", findings, OF_ALL), ("the silent ones", silent(findings), OF_SILENT)]
    parts += [(f"class {name}", rows, OF_A_CLASS) for name, rows in by_class(findings).items()]
    told = []
    if findings and not score(findings).of:
        told.append("nothing was measured: every fault crashed, or is broken")
    for name, rows, least in parts:
        found = score(rows)
        if found.share < least:
            told.append(f"{found.detected} of {found.of} detected of {name}, {least:.0%} promised")
    return told


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the content of `faults.json`."""
    ids = {fate: [one.id for one in findings if one.fate == fate] for fate in FATES}
    quiet = silent(findings)
    return {
        "total": len(findings),
        "detected": len(ids["detected"]),
        "silent": len(quiet),
        "silent_detected": score(quiet).detected,
        **{fate: ids[fate] for fate in FATES[1:]},
        "by_class": {
            name: {"total": len(rows), "detected": score(rows).detected}
            for name, rows in by_class(findings).items()
        },
        "findings": [one.to_json() for one in findings],
    }
