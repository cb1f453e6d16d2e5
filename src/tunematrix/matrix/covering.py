"""Options of several axes → few combinations of them in which any two, or any three, meet.

What is declared unsupported is kept apart exactly. covertable looks for the combinations; the
order in which it does hangs on a seed and on the options alone, so that an option more moves few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Any

from tunematrix.errors import MachineProblem
from tunematrix.spec.matrix import Strategy

INSTALL = "python -m pip install tunematrix"
Together = tuple[tuple[str, int], ...]
"""Options of different axes, each as (axis, place among the axis's options), in order of axes."""


@dataclass(frozen=True)
class Apart:
    """Options that never stand in one combination.

    Attributes:
        options: axis to places among its options: any of one axis with any of each other axis.
        reason: why not.
    """

    options: Mapping[str, frozenset[int]]
    reason: str

    def holds(self, point: Mapping[str, int]) -> bool:
        """Return whether options, of some axes or of all, are among these on each axis."""
        return all(point.get(axis, -1) in places for axis, places in self.options.items())


@dataclass(frozen=True)
class Lost:
    """Options that meet in no combination.

    Attributes:
        together: the options. reason: why they can't.
    """

    together: Together
    reason: str


@dataclass(frozen=True)
class Covering:
    """Combinations, and what they cover.

    Attributes:
        rows: (axes,) places of options, in the order of the axes; sorted.
        total: how many pairs or triples of options there are.
        possible: how many combinations the whole product has, unsupported ones among them.
        lost: the pairs or triples that stand in no row.
    """

    rows: tuple[tuple[int, ...], ...]
    total: int
    possible: int
    lost: tuple[Lost, ...]

    @property
    def covered(self) -> int:
        """How many pairs or triples meet in some row."""
        return self.total - len(self.lost)


def cover(sizes: Mapping[str, int], apart: Sequence[Apart], strategy: Strategy) -> Covering:
    """Return combinations of one option of each axis, in which options meet as `strategy` says.

    Args:
        sizes: axis to the number of its options.
        apart: what never stands together.

    Raises:
        MachineProblem: covertable isn't installed.
    """
    strength = min(strategy.strength or len(sizes), len(sizes))
    if any(not one.options for one in apart) or not sizes:
        rows: Iterable[tuple[int, ...]] = () if apart else [()]
    elif strength == len(sizes):
        rows = _product(sizes, apart)
    else:
        rows = _found(sizes, apart, strength, strategy.seed)
    found = tuple(sorted(rows))
    total, lost = _lost(sizes, apart, found, strength)
    return Covering(found, total, prod(sizes.values()), tuple(lost))


def _product(sizes: Mapping[str, int], apart: Sequence[Apart]) -> Iterator[tuple[int, ...]]:
    for row in product(*map(range, sizes.values())):
        if not any(one.holds(dict(zip(sizes, row, strict=True))) for one in apart):
            yield row


def _found(
    sizes: Mapping[str, int], apart: Sequence[Apart], strength: int, seed: int
) -> list[tuple[int, ...]]:
    try:
        from covertable.main import Controller
    except ImportError:
        text = "strategies pairs and triples need covertable, which isn't installed here; run"
        raise MachineProblem(f"{text} {INSTALL}") from None
    rows: list[tuple[int, ...]] = []
    # With the first options of each axis first, whose rows the next ones then only add to: direct,
    # a third fewer would do, but one option more would exchange nearly all of them.
    for level in range(1, max(sizes.values()) + 1):
        factors = [list(range(min(size, level))) for size in sizes.values()]
        known = [dict(enumerate(row)) for row in rows]
        constraints = list(_constraints(list(sizes), apart, level))
        search = Controller(
            factors, strength=strength, constraints=constraints, presets=known, salt=str(seed)
        )
        rows = [tuple(row) for row in search.make_async()]
    return rows


def _constraints(
    axes: Sequence[str], apart: Sequence[Apart], level: int
) -> Iterator[dict[str, Any]]:
    """Yield what the first `level` options have to keep to: a constraint for each set of axes."""
    by_axes: defaultdict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    for one in apart:
        places = sorted((axes.index(axis), options) for axis, options in one.options.items())
        at = tuple(index for index, _ in places)
        here = ([place for place in options if place < level] for _, options in places)
        by_axes[at].update(product(*here))
    for at, unwanted in by_axes.items():
        if unwanted:
            yield {"operator": "fn", "requires": list(at), "evaluate": _is_wanted(at, unwanted)}


def _is_wanted(
    at: tuple[int, ...], unwanted: set[tuple[int, ...]]
) -> Callable[[Mapping[int, int]], bool]:
    return lambda row: tuple([row[index] for index in at]) not in unwanted


def _lost(
    sizes: Mapping[str, int],
    apart: Sequence[Apart],
    rows: Sequence[tuple[int, ...]],
    strength: int,
) -> tuple[int, list[Lost]]:
    """Return how many groups of options there are, and those that stand in no row."""
    names = list(sizes)
    total, lost = 0, []
    for at in combinations(range(len(names)), strength):
        met = {tuple([row[index] for index in at]) for row in rows}
        for places in product(*(range(sizes[names[index]]) for index in at)):
            total += 1
            if places not in met:
                together = tuple((names[i], place) for i, place in zip(at, places, strict=True))
                lost.append(Lost(together, _reason(dict(together), apart)))
    return total, lost


def _reason(point: Mapping[str, int], apart: Sequence[Apart]) -> str:
    direct = next((one.reason for one in apart if one.holds(point)), None)
    return direct or "with each option of another axis, one of them is unsupported"
