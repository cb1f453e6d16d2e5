"""Two baselines side by side: what recording again would change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tunematrix.baselines.model import Band, Baseline

Change: TypeAlias = Literal["new", "gone", "moved", "constant", "wider", "narrower"]
WIDER = 1.5
"""How many times as wide a band is before that is told."""


@dataclass(frozen=True)
class BandChange:
    """One band that isn't what it was.

    Attributes:
        cell: id of the cell; metric: the figure. old, new: its bands, None where there is none.
        change: "moved" where the new median lies outside of the old band, "constant" where a figure
            that varied doesn't any more.
    """

    cell: str
    metric: str
    old: Band | None
    new: Band | None
    change: Change

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        bands = {"old": self.old, "new": self.new}
        plain = {name: one and one.model_dump(mode="json") for name, one in bands.items()}
        return {"cell": self.cell, "metric": self.metric, "change": self.change, **plain}


def band_changes(old: Baseline | None, new: Baseline) -> Iterator[BandChange]:
    """Yield how the bands of all cells of `new` differ from those of `old`, in their order.

    Cells of which there are no new runs aren't told.
    """
    for cell, own in new.cells.items():
        before = old.cells.get(cell) if old else None
        bands = before.bands if before else {}
        for metric in dict.fromkeys([*bands, *own.bands]):
            pair = bands.get(metric), own.bands.get(metric)
            if change := _change(*pair):
                yield BandChange(cell, metric, *pair, change)


def _change(old: Band | None, new: Band | None) -> Change | None:
    if old is None or new is None:
        return "new" if old is None else "gone"
    if not old.low <= new.median <= old.high:
        return "moved"
    if old.varies and not new.varies and new.n > 1:
        return "constant"
    widths = old.high - old.low, new.high - new.low
    if widths[1] > WIDER * widths[0]:
        return "wider"
    return "narrower" if widths[0] > WIDER * widths[1] else None
