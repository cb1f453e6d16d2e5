"""Which outcomes a seed changed, and how near each check came to its bound, for a terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunematrix.errors import counted
from tunematrix.proof.soak.margins import Soak

TIGHT = 0.2
"""Below this share of its bound, what is left is marked."""


def summary(soak: Soak) -> Group:
    """Return the table of margins, the tightest first, and every outcome that changed."""
    table = Table(box=SIMPLE, title="nearest approach to each bound", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("left", justify="right")
    table.add_column("nearest to its bound, and where", overflow="fold")
    for margin in soak.margins:
        left = Text(f"{margin.slack:.0%}", "bold red" if margin.slack < TIGHT else "")
        figure = f"{margin.measured:.3g} {margin.unit}".strip()
        # As Text: ids have brackets, which rich would take for markup.
        nearest = Text(f"{figure}; bound {margin.bound}\n{margin.cell}")
        table.add_row(Text(f"{margin.check}\n{counted(margin.runs, 'run')}"), left, nearest)
    parts: list[Table | Text] = [table]
    for name, outcomes in soak.changed.items():
        each = (f"{outcome} under {_listed(seeds)}" for outcome, seeds in outcomes.items())
        parts.append(Text(f"changed: {name}: {'; '.join(each)}", "bold red"))
    made, seeds = counted(soak.runs, "run"), counted(soak.seeds, "seed")
    total = f"{made} of {soak.cells} cells and relations, {seeds}: "
    changed = counted(len(soak.changed), "outcome")
    parts.append(Text(f"{total}{changed} changed", "bold"))
    return Group(*parts)


def _listed(seeds: list[str], most: int = 5) -> str:
    word = "seed" if len(seeds) == 1 else "seeds"
    more = f" and {len(seeds) - most} more" if len(seeds) > most else ""
    return f"{word} {', '.join(seeds[:most])}{more}"
