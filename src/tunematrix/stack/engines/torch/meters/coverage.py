"""Which rows of the data were trained on, how often, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from tunematrix.evidence.events import Coverage

Row = tuple[int, ...]


class CoverageMeter:
    """Counts training rows as they are seen; rows that are alike count together.

    Args:
        rows: the ids of every row, in the order of the data.
        order: the places in it of the rows that are to come, for ever; None where nobody knows.
    """

    def __init__(self, rows: Sequence[Row], order: Iterator[int] | None = None) -> None:
        self.rows, self.expected = rows, order
        self.strayed = 0
        self.copies = Counter(rows)
        # What stands twice in the data has no place of its own.
        self.places = {row: place for place, row in enumerate(rows) if self.copies[row] == 1}
        self.seen: Counter[Row] = Counter()
        self.order: list[int] = []

    def saw(self, row: Row | None) -> None:
        """Take note of one row; None is none of the data."""
        if self.expected is not None:
            self.strayed += self.rows[next(self.expected)] != row
        if row is None:
            return
        self.seen[row] += 1
        if row in self.places:
            self.order.append(self.places[row])

    def event(self, processes: int) -> Coverage:
        """Say what this process saw, one of several that share the rows."""
        count, seen = self.copies.total(), self.seen.total()
        often = -(-seen * processes // max(count, 1))
        # A process of several can't know what the others have seen.
        seldom = seen // max(count, 1) if processes == 1 else 0
        uneven = sum(
            not seldom * copies <= self.seen[row] <= often * copies
            for row, copies in self.copies.items()
        )
        strayed = None if self.expected is None else self.strayed
        return Coverage(count, seen, uneven, _successive(self.order), strayed)


def _successive(order: Iterable[int]) -> float:
    """Return the share of places that are followed by the one after them in the data."""
    pairs = list(pairwise(order))
    return sum(after == before + 1 for before, after in pairs) / max(len(pairs), 1)
