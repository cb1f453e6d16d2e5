"""What a check returns, and what it is given beside the evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunematrix.evidence.evidence import Evidence
from tunematrix.spec.model import Spec

Outcome = Literal["passed", "failed", "warned"]


@dataclass(frozen=True)
class Verdict:
    """One check's answer.

    Attributes:
        name: of the check.
        outcome: passed, failed or warned; a warning never decides a cell.
        measured: the figure, or a short text where there is no figure.
        bound: what it was held against, in words.
        unit: of `measured`.
        message: what was measured, what was expected, and the likely cause.
    """

    name: str
    outcome: Outcome
    measured: float | str | None
    bound: str
    unit: str
    message: str

    @property
    def is_measured(self) -> bool:
        """Whether a figure or a word decided it, and not the want of one."""
        is_nan = isinstance(self.measured, float) and math.isnan(self.measured)
        return self.measured is not None and not is_nan


@dataclass(frozen=True)
class Claim:
    """What the cell claimed to be.

    Attributes:
        spec: the bounds.
        config: the composed configuration it ran with.
    """

    spec: Spec
    config: Mapping[str, Any]

    def option(self, axis: str) -> Mapping[str, Any]:
        """Return the configuration of one axis's option."""
        section: Mapping[str, Any] = self.config[axis]
        return section

    def hides(self, what: str) -> bool:
        """Whether the backend says that nothing can show this of its trainer."""
        return what in self.option("backend").get("hides", ())

    @property
    def train(self) -> Mapping[str, Any]:
        """Return the training settings."""
        return self.option("train")


Check = Callable[[Evidence, Claim], Verdict | None]
"""A check; None means that this claim asks nothing of it."""


def decide(
    name: str,
    ok: bool,
    measured: float | str | None,
    bound: str,
    message: str,
    *,
    unit: str = "",
) -> Verdict:
    """Make a verdict; `message` explains a failure."""
    return Verdict(name, "passed" if ok else "failed", measured, bound, unit, "" if ok else message)


def within(
    name: str,
    measured: float,
    low: float | None,
    high: float | None,
    message: str,
    *,
    unit: str,
) -> Verdict:
    """Make a verdict by bounds of which one may be absent; nan and infinity never pass."""
    ok = (
        math.isfinite(measured)
        and (low is None or measured >= low)
        and (high is None or measured <= high)
    )
    if high is None:
        bound = f">= {low:g}"
    elif low is None:
        bound = f"<= {high:g}"
    else:
        bound = f"{low:g} to {high:g}"
    return decide(name, ok, measured, bound, message, unit=unit)


def missing(name: str, what: str) -> Verdict:
    """Return the failure of a check whose evidence was never written."""
    message = (
        f"the run left no record of {what}, so nothing vouches for it; the recipe stopped early "
        "or ran without this meter"
    )
    return Verdict(name, "failed", None, f"a record of {what}", "", message)


def unbounded(name: str, field: str) -> Verdict:
    """Return the failure of a check that the spec gives no bound, though the recipe measures."""
    message = f"nothing decides what was measured; give {field} in the spec"
    return Verdict(name, "failed", None, f"{field} in the spec", "", message)


def listed(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    """Name the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
