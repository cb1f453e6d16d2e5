"""Bands of a baseline on a terminal: what recording again would change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tunematrix.baselines.comparing import BandChange
from tunematrix.baselines.model import Band
from tunematrix.errors import counted
from tunematrix.report.text import one_line

COLOURS = {"new": "green", "gone": "red", "moved": "bold yellow", "constant": "bold yellow"}
_WORDS = {
    "moved": "its median lies outside of the old band",
    "constant": "it varied from run to run, and doesn't any more",
    "gone": "it isn't measured any more",
}


def changed_bands(changes: Sequence[BandChange]) -> Group:
    """Return a few lines for each cell: its bands that change, old and new."""
    shown: list[RenderableType] = []
    for number, change in enumerate(changes):
        if not number or changes[number - 1].cell != change.cell:
            shown.append(Text(one_line(change.cell), "bold"))
        text = Text("  ")
        text.append(change.change, COLOURS.get(change.change, ""))
        text.append(f"  {one_line(change.metric)} {_band(change.old)} → {_band(change.new)}")
        why = _WORDS.get(change.change)
        shown.append(text.append(f"; {why}" if why else ""))
    if not changes:
        shown.append(Text("these runs give the bands that are recorded"))
    return Group(*shown)


def _band(band: Band | None) -> str:
    if band is None:
        return "none"
    unit = f" {band.unit}" if band.unit else ""
    return f"{band.median:.4g} ({band.low:.4g} to {band.high:.4g}{unit}, {_times(band.n)})"


def _times(count: int) -> str:
    return counted(count, "run")
