"""A check's result, and the claim that it gets beside the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunematrix.checks.bound import NOT_FINITE, Bound, Measured, bound_from_json
from tunematrix.configuration import Configuration
from tunematrix.spec.model import Spec

Outcome = Literal["passed", "failed", "warned"]


@dataclass(frozen=True)
class Verdict:
    """One check's answer.

    Attributes:
        name: of the check.
        outcome: passed, failed or warned; a warning never decides a cell.
        measured: the figure, or a short text where there is no figure.
        bound: the allowed values; None where evidence or the spec's bound was missing.
        unit: of `measured`.
        message: what was measured, what was expected, and the likely cause.
    """

    name: str
    outcome: Outcome
    measured: Measured
    bound: Bound | None
    unit: str
    message: str

    @property
    def is_measured(self) -> bool:
        """Whether a figure or a word decided it, and not the want of one."""
        is_nan = isinstance(self.measured, float) and math.isnan(self.measured)
        return self.measured is not None and not is_nan

    @property
    def slack(self) -> float | None:
        """The unused share of the bound; None where there is no such figure."""
        return None if self.bound is None else self.bound.slack(self.measured)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; nan and inf, which JSON lacks, become strings."""
        finite = not isinstance(self.measured, float) or math.isfinite(self.measured)
        return {
            "name": self.name,
            "outcome": self.outcome,
            "measured": self.measured if finite else str(self.measured),
            "bound": None if self.bound is None else self.bound.to_json(),
            "unit": self.unit,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Rebuild a verdict, of a record of any version.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, unknown or of another type.
        """
        measured = NOT_FINITE.get(data["measured"], data["measured"])
        bound = bound_from_json(data["bound"])
        return cls(**{**data, "measured": measured, "bound": bound})


@dataclass(frozen=True)
class Judgement:
    """A verdict whose check has still to put its name and its unit to it.

    Attributes:
        unit: of `measured`, where it isn't the check's own.
    """

    outcome: Outcome
    measured: Measured
    bound: Bound | None
    message: str
    unit: str | None = None

    def verdict(self, name: str, unit: str = "") -> Verdict:
        """Return the verdict of the check that is called so and measures in this unit."""
        own = unit if self.unit is None else self.unit
        return Verdict(name, self.outcome, self.measured, self.bound, own, self.message)


@dataclass(frozen=True)
class Claim:
    """What the cell claimed to be.

    Attributes:
        spec: the bounds.
        config: the composed configuration it ran with.
    """

    spec: Spec
    config: Configuration

    def hides(self, what: str) -> bool:
        """Whether nothing can show this of the trainer: the backend says so, or it is compiled."""
        compiled = what == "layers" and self.config.train.is_compiled
        return compiled or what in self.config.backend.hides


def judge_by(
    bound: Bound,
    measured: Measured,
    message: str,
    *,
    provided: bool = True,
    unit: str | None = None,
) -> Judgement:
    """Compare a measured value with a bound.

    Args:
        bound: the allowed values.
        measured: the value to compare.
        message: explains a failure.
        provided: what has to hold besides, without which the figure proves nothing.
        unit: of `measured`, where it isn't the check's own.
    """
    passes = provided and bound.holds(measured)
    outcome: Outcome = "passed" if passes else "failed"
    return Judgement(outcome, measured, bound, "" if passes else message, unit)


def missing(what: str) -> Judgement:
    """Return the failure of a check whose evidence was never written."""
    message = f"no reading of {what}; the cell stopped early, or this meter didn't run"
    return Judgement("failed", None, None, message, "")


def unbounded(field: str) -> Judgement:
    """Return the failure of a check that the spec gives no bound, though the recipe measures."""
    message = f"the spec has no bound for this; add {field}"
    return Judgement("failed", None, None, message, "")


def listed(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    """Name the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
