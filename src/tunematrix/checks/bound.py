"""Bounds on a measured value, as data: each decides, knows its margin, and can be shown."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, TypeAlias, TypeGuard

from tunematrix.checks.arithmetic import relative

Measured: TypeAlias = float | str | None
"""A figure; a short text where there is none; None where nothing was measured."""
NOT_FINITE: Mapping[str, float] = {str(x): x for x in (math.nan, math.inf, -math.inf)}
"""How JSON, which lacks them, spells figures that aren't finite."""


@dataclass(frozen=True)
class Limit(ABC):
    """Base of all bounds.

    Attributes:
        kind: names the class in JSON.
        note: what else a reader needs, such as "the worst of 12 layers"; it decides nothing.
    """

    kind: str = field(init=False)
    note: str = field(default="", kw_only=True)

    def holds(self, measured: Measured) -> bool:
        """Return whether a value passes; nan, infinity and the want of a value never do."""
        return is_figure(measured) and self._admits(measured)

    def slack(self, measured: Measured) -> float | None:
        """Return what a figure leaves of the bound, as a share; below 0 where it doesn't hold.

        None where there is no such share: of texts, of counts, and of bounds of 0.
        """
        if not isinstance(measured, float) or not math.isfinite(measured):
            return None
        left = self._left(measured)
        return left if left is not None and math.isfinite(left) else None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; figures that aren't finite become strings."""
        return {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in ((name, getattr(self, name)) for name in _names(type(self)))
        }

    def __str__(self) -> str:
        return f"{self._shown()}, {self.note}" if self.note else self._shown()

    @abstractmethod
    def _shown(self) -> str:
        """Return the bound without its note."""

    def _admits(self, measured: float) -> bool:
        """Return whether a finite figure passes."""
        return False

    def _left(self, measured: float) -> float | None:
        """Return the slack of a finite figure."""
        return None


@cache
def _names(bound: type[Limit]) -> tuple[str, ...]:
    """Return the names of a bound's fields; a run asks for them a million times."""
    return tuple(item.name for item in fields(bound))


@dataclass(frozen=True)
class AtMost(Limit):
    """An error, a size: `limit` itself passes."""

    limit: float
    kind: str = field(default="at_most", init=False)

    def _admits(self, measured: float) -> bool:
        return measured <= self.limit

    def _left(self, measured: float) -> float | None:
        return (self.limit - measured) / abs(self.limit) if self.limit else None

    def _shown(self) -> str:
        return f"<= {_number(self.limit)}"


@dataclass(frozen=True)
class Below(Limit):
    """A change that must have one direction: `limit` itself doesn't pass."""

    limit: float
    kind: str = field(default="below", init=False)

    def _admits(self, measured: float) -> bool:
        return measured < self.limit

    def _left(self, measured: float) -> float | None:
        return (self.limit - measured) / abs(self.limit) if self.limit else None

    def _shown(self) -> str:
        return f"< {_number(self.limit)}"


@dataclass(frozen=True)
class AtLeast(Limit):
    """A share, a speed: `limit` itself passes. Its slack is a share of the larger of the two."""

    limit: float
    kind: str = field(default="at_least", init=False)

    def _admits(self, measured: float) -> bool:
        return measured >= self.limit

    def _left(self, measured: float) -> float | None:
        largest = max(abs(measured), abs(self.limit))
        return (measured - self.limit) / largest if self.limit else None

    def _shown(self) -> str:
        return f">= {_number(self.limit)}"


@dataclass(frozen=True)
class Between(Limit):
    """A range whose ends pass. Its slack is a share of half of it, or of an error's upper end."""

    low: float
    high: float
    kind: str = field(default="between", init=False)

    def _admits(self, measured: float) -> bool:
        return self.low <= measured <= self.high

    def _left(self, measured: float) -> float | None:
        if not self.low and measured >= 0:
            return AtMost(self.high).slack(measured)  # an error, which nothing bounds from below
        half = (self.high - self.low) / 2
        return min(measured - self.low, self.high - measured) / half if half else None

    def _shown(self) -> str:
        return f"{_number(self.low)} to {_number(self.high)}"


@dataclass(frozen=True)
class Around(Limit):
    """A figure that is known beforehand, and how far off a measured one may be."""

    target: float
    tolerance: float
    kind: str = field(default="around", init=False)

    def _admits(self, measured: float) -> bool:
        return abs(measured - self.target) <= self.tolerance

    def _left(self, measured: float) -> float | None:
        return 1 - abs(measured - self.target) / self.tolerance if self.tolerance else None

    def _shown(self) -> str:
        return f"{_number(self.target)} within {_number(self.tolerance)}"


@dataclass(frozen=True)
class Near(Limit):
    """The same, with the tolerance as a share of the target; of a target of 0, nothing is near."""

    target: float
    share: float
    kind: str = field(default="near", init=False)

    def _admits(self, measured: float) -> bool:
        return relative(measured, self.target) <= self.share

    def _left(self, measured: float) -> float | None:
        most = self.share * abs(self.target)
        return 1 - abs(measured - self.target) / most if most else None

    def _shown(self) -> str:
        return f"{_number(self.target)} within {100 * self.share:g}%"


@dataclass(frozen=True)
class Exactly(Limit):
    """A count or a text, which is the one that is due or isn't: there is no slack."""

    value: float | str
    kind: str = field(default="exactly", init=False)

    def holds(self, measured: Measured) -> bool:
        """Return whether it is the very value."""
        return measured is not None and measured == self.value

    def _shown(self) -> str:
        return self.value if isinstance(self.value, str) else _number(self.value)


@dataclass(frozen=True)
class Recorded(Limit):
    """A bound of which an old record kept the text alone: it is shown, and decides nothing."""

    text: str
    kind: str = field(default="recorded", init=False)

    def _shown(self) -> str:
        return self.text


Bound: TypeAlias = AtMost | Below | AtLeast | Between | Around | Near | Exactly | Recorded
"""All that a value can be held against."""
_KINDS: Mapping[str, type[Bound]] = {
    one.kind: one for one in (AtMost, Below, AtLeast, Between, Around, Near, Exactly, Recorded)
}


def between(low: float | None, high: float | None, *, note: str = "") -> Bound:
    """Return the bound of two ends of which one may be absent."""
    if low is not None and high is not None:
        return Between(low, high, note=note)
    if high is not None:
        return AtMost(high, note=note)
    return AtLeast(-math.inf if low is None else low, note=note)


def bound_from_json(data: Mapping[str, Any] | str | None) -> Bound | None:
    """Rebuild a bound; a text is one that a record of the first version kept.

    Raises:
        ValueError, KeyError, TypeError: it is no bound.
    """
    if data is None:
        return None
    if isinstance(data, str):
        return Recorded(data)
    kind = _KINDS.get(data["kind"])
    if kind is None:
        raise ValueError(f"there is no bound of kind {data['kind']}")
    given = {key: value for key, value in data.items() if key != "kind"}
    numbers = {one.name for one in fields(kind) if one.type == "float"}
    return kind(**{k: NOT_FINITE.get(v, v) if k in numbers else v for k, v in given.items()})


def is_figure(measured: Measured) -> TypeGuard[float]:
    """Return whether something is a finite number."""
    return isinstance(measured, int | float) and math.isfinite(measured)


def _number(figure: float) -> str:
    """Return a figure as text; whole numbers keep all of their digits."""
    return str(figure) if isinstance(figure, int) else f"{figure:g}"
