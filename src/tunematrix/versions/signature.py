"""A record, and those of a relation's arms → how it ended: what two runs are compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.environments.locks import normalized
from tunematrix.evidence.events import Raised
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.results.record import Outcome, Record
from tunematrix.versions.points import Point
from tunematrix.versions.trials import Trial


@dataclass(frozen=True, order=True)
class Signature:
    """How a cell or a relation ended.

    Attributes:
        outcome: of it.
        checks: names of the checks that failed, of its arms too, sorted.
        raised: class of the exception that ended it, and the phase in which: "TypeError in load".
        passed: names of the checks that passed, in all of its arms that have them.
    """

    outcome: Outcome
    checks: tuple[str, ...] = ()
    raised: str = ""
    passed: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def is_good(self) -> bool:
        """Whether nothing failed: a fault that is known of a release is one all the same."""
        return self.outcome == "passed"

    def __str__(self) -> str:
        """Say it in a few words: `failed: labels, first_loss`."""
        why = ", ".join([*self.checks, *([self.raised] if self.raised else [])])
        return f"{self.outcome}: {why}" if why else self.outcome


def signatures(point: Point, trial: Trial) -> tuple[Signature, ...]:
    """Return how each run of a point ended, oldest first; none where it left no record."""
    runs = trial.records.get(point.id, ())
    return tuple(_signature(point, trial, number) for number in range(len(runs)))


def raised_in(record: Record, root: Path) -> Raised | None:
    """Return the exception that a record's run left word of; None where there was none."""
    if not record.run_dir:
        return None
    file = RunDir(root / record.run_dir).events
    events = read_events(file) if file.exists() else ()
    return next((event for event in events if isinstance(event, Raised)), None)


def other_versions(record: Record, pins: Mapping[str, str]) -> str:
    """Name what a cell imported in place of a pinned release; empty where it did as it should."""
    wanted = {normalized(name): version for name, version in pins.items()}
    return ", ".join(
        f"{name} {version} in place of {wanted[name]}"
        for name, version in record.versions.items()
        if version.partition("+")[0] != wanted.get(name, version).partition("+")[0]
    )


def _signature(point: Point, trial: Trial, number: int) -> Signature:
    record = trial.records[point.id][number]
    with_arms = [record, *_of_run(point.arms, trial, record.run_id)]
    failed = {check.name for one in with_arms for check in one.failed_checks}
    events = (raised_in(one, trial.root) for one in with_arms)
    raised = next((event for event in events if event is not None), None)
    words = f"{raised.exception[0].rpartition('.')[2]} in {raised.phase}" if raised else ""
    passed = {check.name for one in with_arms for check in one.checks if check.outcome == "passed"}
    return Signature(record.outcome, tuple(sorted(failed)), words, frozenset(passed - failed))


def _of_run(arms: Sequence[str], trial: Trial, run_id: str) -> list[Record]:
    return [one for arm in arms for one in trial.records.get(arm, ()) if one.run_id == run_id]
