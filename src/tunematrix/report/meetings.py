"""Which options meet in a plan → lines for a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunematrix.errors import counted
from tunematrix.matrix.combining import Combined
from tunematrix.matrix.missing import AxisPair
from tunematrix.spec.matrix import STRENGTHS, Strategy

_NAMES = {strength: name for name, strength in STRENGTHS.items()}


def covering_lines(combined: Iterable[Combined]) -> Iterator[str]:
    """Yield what was made of each matrix that isn't run whole, and which options can't meet."""
    for one in combined:
        found = one.covering
        what = _NAMES[Strategy.parse(one.spec.matrix.strategy).strength or 0]
        rows = f"{len(found.rows):,} of {counted(found.possible, 'combination')}"
        place = f"{one.spec.test_id} on {one.backend.label}"
        yield f"{place}: {found.covered:,} of {found.total:,} {what} of options meet, in {rows}"
        for reason, lost in _by_reason(one).items():
            yield f"  can't meet, since {reason}:"
            yield from (f"    {together}" for together in lost)


def missing_lines(pairs: Sequence[AxisPair]) -> Iterator[str]:
    """Yield, for each two axes, how many of their options meet and which never do."""
    for pair in pairs:
        met, total = len(pair.met), len(pair.met) + len(pair.missing)
        if not total:
            continue
        one, other = pair.axes
        yield f"{one} × {other}: {met} of {total} pairs meet"
        by_first: defaultdict[str, list[str]] = defaultdict(list)
        for first, second in pair.missing:
            by_first[first].append(second)
        yield from (f"  {first} × {', '.join(others)}" for first, others in by_first.items())
    met = sum(len(pair.met) for pair in pairs)
    missing = sum(len(pair.missing) for pair in pairs)
    unsupported = sum(pair.unsupported for pair in pairs)
    yield ""
    yield (
        f"{met:,} of {met + missing:,} pairs of options meet in some cell; "
        f"{unsupported:,} more are declared unsupported"
    )


def missing_as_json(pairs: Iterable[AxisPair]) -> list[dict[str, Any]]:
    """Return which options meet as plain data."""
    return [
        {
            "axes": list(pair.axes),
            "met": [list(two) for two in pair.met],
            "missing": [list(two) for two in pair.missing],
            "unsupported": pair.unsupported,
        }
        for pair in pairs
    ]


def _by_reason(one: Combined) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for lost in one.covering.lost:
        options = (f"{axis} {label}" for axis, label in one.labels(lost).items())
        found[lost.reason].append(" × ".join(options))
    return found
