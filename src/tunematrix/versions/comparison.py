"""The records of two sets of releases → what the step from one to the other changes; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from tunematrix.baselines.figures import HELD, check_of
from tunematrix.checks.registry import TOLERANCES
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import ExitCode
from tunematrix.report.past import Moved, Ratio, compared
from tunematrix.results.record import Record
from tunematrix.versions.released_faults import FaultsMoved

Standing: TypeAlias = Literal["works", "fails", "untested"]
Turn: TypeAlias = Literal["broken", "lost", "flaky", "fixed", "gained", "other", "same"]
"""What becomes of an item.

broken: it fails of something that it didn't fail of. lost: it worked, and can't be run. flaky: it
is broken in one run and not in another of the same releases. fixed: it works. gained: it can be
run. other: nothing of that, and it isn't quite as before.
"""
SCHEMA_VERSION = 1
BREAKS: tuple[Turn, ...] = ("broken", "lost", "flaky")
_OF_ONE_SET = frozenset({TOLERANCES, *map(check_of, HELD)})
"""Checks against what was recorded under the versions of one side: the other has them not."""


@dataclass(frozen=True)
class CheckTurn:
    """A check that doesn't end as it did; None for a side that doesn't have it."""

    name: str
    before: Verdict | None
    after: Verdict | None


@dataclass(frozen=True)
class ItemTurn:
    """A cell or a relation on both sides.

    Attributes:
        id: of it.
        before, after: its records; None where a side has none.
        turn: what becomes of it; checks: those that end otherwise.
    """

    id: str
    before: Record | None
    after: Record | None
    turn: Turn
    checks: tuple[CheckTurn, ...] = ()


@dataclass(frozen=True)
class FigureTurn:
    """A figure of a cell that works on both sides, which moved further than its limit.

    Attributes:
        item: id of the cell; metric: name of the figure.
        before, after: in `unit`; None where it wasn't measured.
        reach: how far it may be from `before`.
    """

    item: str
    metric: str
    before: float
    after: float | None
    unit: str
    reach: float


@dataclass(frozen=True)
class UpgradeComparison:
    """What a step from one set of releases to another changes.

    Attributes:
        versions: distributions whose versions differ.
        turns: of each item, in the order of the old side.
        figures: those that moved; ratios: of time and memory, which vary from run to run.
        faults: known ones that are entered or left.
        notes: why something left no record on a side.
    """

    versions: tuple[Moved, ...]
    turns: tuple[ItemTurn, ...]
    figures: tuple[FigureTurn, ...]
    ratios: tuple[Ratio, ...]
    faults: FaultsMoved
    notes: tuple[str, ...] = ()

    def of(self, *turns: Turn) -> tuple[ItemTurn, ...]:
        """Return the items of which one of these became."""
        return tuple(one for one in self.turns if one.turn in turns)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; docs/upgrade.md says what the keys mean."""
        return {
            "schema_version": SCHEMA_VERSION,
            "safe": self.is_safe,
            "versions": [one._asdict() for one in self.versions],
            "items": [_item_json(one) for one in self.turns],
            "figures": [asdict(one) for one in self.figures],
            "ratios": [asdict(one) for one in self.ratios],
            "faults": asdict(self.faults),
            "notes": list(self.notes),
        }

    @property
    def tested(self) -> bool:
        """Whether any item was tested on both sides."""
        return any(
            one.turn in ("broken", "flaky", "fixed", "other", "same")
            and "untested" not in (standing(one.before, ()), standing(one.after, ()))
            for one in self.turns
        )

    @property
    def is_safe(self) -> bool:
        """Whether something was tested, nothing breaks, and no known fault is entered."""
        return self.tested and not self.of(*BREAKS) and not self.faults.entered

    @property
    def exit_code(self) -> ExitCode:
        """0 where the step is safe, 1 where something breaks, 5 where nothing was tested."""
        if self.of(*BREAKS) or self.faults.entered:
            return ExitCode.FAILED
        return ExitCode.PASSED if self.tested else ExitCode.NOTHING_TESTED


def compared_sides(
    before: Sequence[Record],
    after: Sequence[Record],
    versions: Iterable[Moved],
    faults: FaultsMoved,
    notes: Sequence[str] = (),
    repeats: Mapping[str, Sequence[Record]] = MappingProxyType({}),
) -> UpgradeComparison:
    """Hold the records of the new side against those of the old one, item by item.

    Args:
        before, after: at most one record of an item each, made by the same specs and seeds.
        versions: what differs between the sets. faults: known ones that are entered or left.
        notes: why something left no record on a side.
        repeats: by the id of an item, all its runs on the new side, where there are several.
    """
    old, new = ({one.cell_id: one for one in side} for side in (before, after))
    names = dict.fromkeys([*old, *new])
    turns = tuple(_turn(name, old, new, repeats.get(name, ())) for name in names)
    return UpgradeComparison(
        tuple(versions),
        turns,
        tuple(figure for one in turns for figure in _figures(one)),
        compared(before, after).ratios,
        faults,
        tuple(notes),
    )


def standing(record: Record | None, arms: Iterable[Record]) -> Standing:
    """Return what a record says of the releases that it ran with, whatever its spec expects.

    Args:
        record: of an item; None where it has none. arms: records of the cells that it compares.
    """
    if record is None or record.outcome in ("unavailable", "unsupported"):
        return "untested"
    if record.outcome == "passed":
        return "works"
    # A failure that was expected and didn't come fails the item, and no check of it.
    unmet = record.outcome == "failed" and not record.failed_checks
    own = {one.cell_id: one for one in arms if one.cell_id in record.arms}
    works = len(own) == len({*record.arms}) and all(
        standing(arm, ()) == "works" for arm in own.values()
    )
    return "works" if unmet and works else "fails"


def _turn(
    name: str,
    old: Mapping[str, Record],
    new: Mapping[str, Record],
    runs: Sequence[Record],
) -> ItemTurn:
    before = old.get(name)

    def against(after: Record | None) -> ItemTurn:
        checks = tuple(_checks(before, after)) if before and after else ()
        sides = standing(before, old.values()), standing(after, new.values())
        return ItemTurn(name, before, after, _kind(*sides, before, after, checks), checks)

    found = [against(one) for one in (*runs,) or (new.get(name),)]
    broken = [one for one in found if one.turn == "broken"]
    return replace(broken[-1], turn="flaky") if 0 < len(broken) < len(found) else found[-1]


def _kind(
    was: Standing,
    now: Standing,
    before: Record | None,
    after: Record | None,
    checks: Sequence[CheckTurn],
) -> Turn:
    if was == "untested":
        return "same" if now == "untested" else "gained"
    if now == "untested":
        return "lost" if was == "works" else "other"
    if was != now:
        return "broken" if now == "fails" else "fixed"
    if now == "works":
        return "other" if checks else "same"
    assert before is not None and after is not None
    if {one.name for one in after.failed_checks} - {one.name for one in before.failed_checks}:
        return "broken"
    return "other" if checks or before.outcome != after.outcome else "same"


def _checks(before: Record, after: Record) -> Iterator[CheckTurn]:
    """Yield the checks that end otherwise; those of an item that couldn't be run have no say."""
    if not before.checks or not after.checks:
        return
    old, new = ({one.name: one for one in record.checks} for record in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if name in _OF_ONE_SET:
            continue
        outcomes = [one and one.outcome for one in (old.get(name), new.get(name))]
        if outcomes[0] != outcomes[1]:
            yield CheckTurn(name, old.get(name), new.get(name))


def _item_json(item: ItemTurn) -> dict[str, Any]:
    sides = {"before": item.before, "after": item.after}
    checks = [
        {
            "name": check.name,
            "before": check.before and check.before.to_json(),
            "after": check.after and check.after.to_json(),
        }
        for check in item.checks
    ]
    told = {
        side: record and {"outcome": record.outcome, "reason": record.reason}
        for side, record in sides.items()
    }
    return {"id": item.id, "turn": item.turn, **told, "checks": checks}


def _figures(item: ItemTurn) -> Iterator[FigureTurn]:
    before, after = item.before, item.after
    if before is None or after is None or {before.outcome, after.outcome} != {"passed"}:
        return
    for metric, held in HELD.items():
        old, new = before.metrics.get(metric), after.metrics.get(metric)
        if old is None or old == new or not math.isfinite(old):
            continue
        reach = held.reach(old)
        if new is None or not abs(new - old) <= reach:
            yield FigureTurn(item.id, metric, old, new, held.unit, reach)
