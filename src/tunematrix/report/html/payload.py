"""What the page reads, and nothing else: its form, as JSON.

The page's script is written for these fields. Whoever changes one of them changes `FORM`, so that
a script which was kept somewhere can say that it doesn't know the form. All texts are printable:
control characters are written out, and long ones are cut. Figures that aren't finite are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tunematrix.checks.verdict import Outcome as CheckOutcome
from tunematrix.results.record import Outcome

FORM = 3
"""Of the classes below."""

Band: TypeAlias = tuple[float, float]
"""The lowest and the highest value that a baseline expects."""


@dataclass(frozen=True)
class Scale:
    """A figure, and where its bound lies on the same axis.

    Attributes:
        value: the figure; None where there is none.
        low, high: the ends of what is allowed; None where an end is open.
        target: what was expected; None where only the ends are known.
    """

    value: float | None
    low: float | None
    high: float | None
    target: float | None = None


@dataclass(frozen=True)
class ShownCheck:
    """One check of a cell.

    Attributes:
        measured, bound, note, unit, message: as texts.
        scale: where the figure lies; None for words and counts.
        slack: the unused share of the bound; None where there is none.
    """

    name: str
    outcome: CheckOutcome
    measured: str
    bound: str
    note: str
    unit: str
    message: str
    scale: Scale | None
    slack: float | None


@dataclass(frozen=True)
class ShownMemory:
    """One kind of memory: what it is called, MB, and what the spec or theory allows."""

    kind: str
    unit: str
    scale: Scale
    bound: str


@dataclass(frozen=True)
class PastPoint:
    """The same cell in an earlier run of its environment on its hardware.

    Attributes:
        run: its id; moment: YYYY-MM-DD HH:MM, may be empty.
        figures: by name; those of `FIGURES` that were recorded.
    """

    run: str
    moment: str
    outcome: Outcome
    figures: Mapping[str, float]


@dataclass(frozen=True)
class ShownCell:
    """One cell or relation of a run that is shown in full.

    Attributes:
        run: position of its run in `Page.runs`.
        axes: axis to option; several options, of arms that differ, as `a|b`.
        figures: by name, those of `FIGURES`; bands: what a baseline expects of them, by name.
        nearest: position in `checks` of the one that comes nearest to its bound, in a relation.
        losses: (step from 1, nats per token), with None for a loss that isn't finite.
        durations: seconds by phase, without their sum.
        arms: ids of the cells that a relation compares; a cell has none.
        past: earlier runs, oldest first.
        again: the command that repeats it.
        stderr: the last lines that it printed as errors.
    """

    run: int
    id: str
    outcome: Outcome
    reason: str
    link: str
    spec: str
    axes: Mapping[str, str]
    figures: Mapping[str, float]
    bands: Mapping[str, Band]
    checks: tuple[ShownCheck, ...]
    nearest: int | None
    memory: tuple[ShownMemory, ...]
    losses: tuple[tuple[int, float | None], ...]
    floor: float | None
    durations: Mapping[str, float]
    settings: Mapping[str, str]
    arms: tuple[str, ...]
    past: tuple[PastPoint, ...]
    again: str
    stderr: str


@dataclass(frozen=True)
class ShownRun:
    """One run of one environment on one machine.

    Attributes:
        moment: YYYY-MM-DD HH:MM, may be empty; earlier: how many older runs its cells know.
        system: system, architecture and Python.
        named: the versions that a reader looks for first; versions: all of them.
        interrupted: how far it came where it was interrupted, in words; else empty.
    """

    environment: str
    id: str
    moment: str
    hardware: str
    system: str
    earlier: int
    named: Mapping[str, str]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    interrupted: str


@dataclass(frozen=True)
class ShownOutcome:
    """An outcome, its symbol, and its name in words: of one cell, and of several."""

    name: Outcome
    symbol: str
    words: str
    several: str


@dataclass(frozen=True)
class Figure:
    """A metric that the page shows.

    Attributes:
        name: in `figures`; label, unit: for people; scale: what a value is multiplied by first.
        digits: behind the decimal point; None: four significant ones.
        worst: which of several values a square shows, "smallest" or "largest".
    """

    name: str
    label: str
    unit: str
    digits: int | None
    worst: Literal["smallest", "largest"]
    scale: float = 1.0


@dataclass(frozen=True)
class ComparedCell:
    """A cell in two runs: how it ended, and its figures, each before and after."""

    id: str
    outcomes: tuple[Outcome | None, Outcome | None]
    reason: str
    figures: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ShownMove:
    """What differs between two runs, before and after, as texts."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class ShownComparison:
    """Two runs, side by side.

    Attributes:
        before, after: what they are called; after_run: position in `Page.runs`.
        moves: what else differs; same: how many cells ended alike.
        cells: those of either run; what ended otherwise stands first.
    """

    before: str
    after: str
    before_run: int | None
    after_run: int
    moves: tuple[ShownMove, ...]
    same: int
    cells: tuple[ComparedCell, ...]


@dataclass(frozen=True)
class ParityRow:
    """One value that all engines have to agree on: a norm or a loss of the recipe `parity`.

    Attributes:
        group: options by which groups of values differ, such as "bf16".
        name: of the value; values: by position of the run; None where it wasn't computed there.
        spread: largest difference between two of them, as a share of the largest.
    """

    group: str
    name: str
    values: tuple[float | None, ...]
    spread: float | None


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    Attributes:
        title: of the page; made: when and by which version, in words.
        outcomes: worst first; axes: names, in the order of the columns.
        quantizers: names, in the order that every view has.
        left_out: what isn't shown, in a sentence; empty where everything is.
    """

    title: str
    made: str
    outcomes: tuple[ShownOutcome, ...]
    axes: tuple[str, ...]
    quantizers: tuple[str, ...]
    figures: tuple[Figure, ...]
    runs: tuple[ShownRun, ...]
    cells: tuple[ShownCell, ...]
    comparisons: tuple[ShownComparison, ...] = ()
    parity: tuple[ParityRow, ...] = ()
    left_out: str = ""
    form: int = field(default=FORM)


FIGURES = (
    Figure("gap_closed", "gap closed", "%", 0, "smallest", 100.0),
    Figure("heldout_loss", "held-out loss", "nats", 3, "largest"),
    Figure("seconds", "time", "s", 1, "largest"),
    Figure("process_peak_mb", "memory", "MB", 0, "largest"),
    Figure("stored_mb", "stored", "MB", 1, "largest"),
    Figure("tokens_per_second", "speed", "tokens/s", 0, "smallest"),
    Figure("logit_error", "logit error", "", None, "largest"),
)
"""What tables have columns for; a cell's page shows everything else as well."""
