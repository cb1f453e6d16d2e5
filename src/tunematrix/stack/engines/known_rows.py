"""The rows of the data, as tokens that count or don't; and what is wrong with one that isn't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunematrix.stack.engines.examples import Example
from tunematrix.stack.engines.rules import Rules

Misread: TypeAlias = Literal["cut", "foreign", "masked", "first", "shifted", "others"]
"""What is wrong with a row: it is part of one of the data, or none of it; nothing of it counts; its
first token is predicted from what stands before the row; labels aren't its own tokens; or other
tokens count than should."""
Row = tuple[int, ...]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass
class Found:
    """What was found of some rows.

    Attributes:
        faithful: rows that are as they should be; cut: those of them that were cut, as allowed.
        wrong: what is wrong with the others, and how often.
        texts: tokens of the shortest and of the longest of the data, where rows are packed.
        flat: rows that stood one after the other in a single one; 0 where each had its own.
    """

    faithful: int = 0
    cut: int = 0
    texts: tuple[int, int] | None = None
    flat: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, row: Misread | None, cut: bool) -> None:
        """Take note of one row."""
        if row is None:
            self.faithful += 1
            self.cut += cut
        else:
            self.wrong[row] += 1


class KnownRows:
    """Knows every row of the data: its ids, and which of them count.

    A row is known only if what counts of it spells a text that the data form supervises, its
    end-of-sequence token included: what we tokenize ourselves vouches for nothing else.

    Args:
        examples: the rows; texts: what they may count; rules: to spell them by.
        longest: tokens that a row may have where longer ones are cut; None: none is cut.
        saw: takes the ids of each row that is one of the data, whatever counts of it; of any
            other, None.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        texts: Collection[str],
        rules: Rules,
        longest: int | None = None,
        saw: Callable[[Row | None], None] = lambda row: None,
    ) -> None:
        self.saw = saw
        self.rows: dict[bytes, Row] = {}
        self.marks: dict[bytes, set[bytes]] = {}
        self.shortened: set[bytes] = set()
        # All at once and before training begins, which would wait for it row by row.
        spelt = rules.texts(
            [
                [i for i, counts in zip(one.ids, one.counted, strict=True) if counts]
                for one in examples
            ]
        )
        for example, text in zip(examples, spelt, strict=True):
            if text in texts:
                self._learn(example, longest)

    def _learn(self, example: Example, longest: int | None) -> None:
        ids = np.array(example.ids[:longest], np.int64)
        marks = np.array(example.counted[:longest], np.bool_)
        key = ids.tobytes()
        self.rows[key] = example.ids[:longest]
        # Nothing stands before a row that could predict its first token.
        self.marks.setdefault(key, set()).add(marks[1:].tobytes())
        if len(ids) < len(example.ids):
            self.shortened.add(key)

    def lengths(self) -> tuple[int, int] | None:
        """Return the tokens of the shortest row and of the longest; None without any."""
        found = [len(row) for row in self.rows.values()]
        return (min(found), max(found)) if found else None

    def judge(self, ids: Ints, labels: Ints, counted: Flags) -> tuple[Misread | None, bool]:
        """Say what is wrong with a row, and whether it is one that was cut.

        Args:
            ids, labels, counted: of the row's real positions, each (tokens,).
        """
        key = ids.tobytes()
        row = self.rows.get(key)
        self.saw(row)
        if row is None:
            return ("cut" if self._is_part(key) else "foreign"), False
        as_known = counted[1:].tobytes() in self.marks[key]
        if not as_known and not counted[1:].any():
            return "masked", False
        if (counted & (labels != ids)).any():
            return "shifted", False
        return (None if as_known else "others"), key in self.shortened

    def _is_part(self, key: bytes) -> bool:
        """Whether a row of the data begins, or ends, with these ids."""
        return any(row.startswith(key) or row.endswith(key) for row in self.rows)
