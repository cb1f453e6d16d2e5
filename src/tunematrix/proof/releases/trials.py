"""Regressions → findings: each set of releases is run once, with the cells of all its rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunematrix.errors import ExitCode
from tunematrix.paths import state
from tunematrix.proof.releases.table import Regression
from tunematrix.proof.releases.verdicts import Decision, Observed, Seen, decide
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.versions import overlays
from tunematrix.versions.overlays import NotInstalled, Pins
from tunematrix.versions.points import Point
from tunematrix.versions.signature import other_versions, raised_in
from tunematrix.versions.trials import RAN, last_line, pytest_run

SCHEMA_VERSION = 1
AS_IT_IS = "as-it-is"
"""Names the environment without an overlay."""


@dataclass(frozen=True)
class RegressionFinding:
    """What became of one regression.

    Attributes:
        id, link, shows: of the row; expected: what had to fail, in words.
        packages: the pins of either side; None for a side that there isn't.
        observed: the decision in a word; reason: in a sentence.
        check: what noticed it, with its figure.
        seconds: of the cells on both sides; what several rows share counts in each.
    """

    id: str
    link: str
    shows: str
    packages: Mapping[str, Mapping[str, str] | None]
    expected: Mapping[str, str]
    observed: Observed
    reason: str
    check: str
    seconds: float


@dataclass(frozen=True)
class ReleaseOutcomes:
    """What one set of releases made of the cells that were run with it.

    Attributes:
        seen: by the id of a cell or a relation; seconds: by the id of a cell.
        lacking: why it couldn't be installed; empty where it could.
    """

    seen: Mapping[str, Seen] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    lacking: str = ""


@dataclass(frozen=True)
class ReleaseRunner:
    """Where regressions are run.

    Attributes:
        root: the project; environment: whose cells.
        options: what tells pytest which project this is.
        say: takes a line of progress.
    """

    root: Path
    environment: str
    options: Sequence[str]
    say: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Where their runs leave everything, apart from the project's own records."""
        return state(self.root) / "regressions"

    def run(self, pins: Pins, points: Sequence[Point]) -> ReleaseOutcomes:
        """Run cells with a set of releases."""
        try:
            with overlays.lent(pins, self.root, self.say) as overlay:
                return self._run(overlay, pins, points)
        except NotInstalled as error:
            return ReleaseOutcomes(lacking=str(error))

    def _run(self, overlay: Path | None, pins: Pins, points: Sequence[Point]) -> ReleaseOutcomes:
        place = self.folder / (overlay.name if overlay else AS_IT_IS)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        options = (*self.options, f"--environment={self.environment}")
        code = pytest_run(self.root, options, overlay, place, points)
        records = Store(place / self.environment / "results.jsonl").read()
        by_id = {record.cell_id: record for record in records}
        problem = "" if code in RAN else f"pytest ended with exit code {code}: {last_line(place)}"
        seen = {one.id: self._seen(one, by_id, pins, problem) for one in points}
        seconds = {name: record.durations.get("total", 0.0) for name, record in by_id.items()}
        return ReleaseOutcomes(seen, seconds)

    def _seen(self, point: Point, records: Mapping[str, Record], pins: Pins, problem: str) -> Seen:
        """Read what a cell left behind, or a relation and its arms."""
        record = records.get(point.id)
        if record is None:
            return Seen(point.id, ended=False, problem=problem or "it left no record")
        if record.outcome == "unavailable":
            return Seen(point.id, ended=False, problem=record.reason, unavailable=True)
        if wrong := other_versions(record, pins):
            return Seen(point.id, ended=False, problem=f"it ran with {wrong}")
        # What a relation's arm raises is all that there is of the relation.
        runs = [records[name] for name in (point.id, *point.arms) if name in records]
        raised = next(filter(None, (raised_in(one, self.root) for one in runs)), None)
        ended = record.outcome != "error" and not any(
            check.name == "exit" for check in record.failed_checks
        )
        return Seen(
            point.id,
            ended=ended,
            failed=tuple(
                check
                for name in (point.id, *point.arms)
                for check in (records[name].failed_checks if name in records else ())
            ),
            raised=raised.exception if raised else (),
            phase=raised.phase if raised else "",
            problem="" if ended else record.reason,
            excused=point.excused,
            versions=record.versions,
            place=point.place,
        )


def try_out(
    regressions: Sequence[Regression],
    runner: ReleaseRunner,
    keep: Callable[[Sequence[RegressionFinding]], object],
) -> tuple[RegressionFinding, ...]:
    """Run both sides of each regression, and say what that shows.

    `keep` takes what is known after each set of releases, so that no interruption loses it.
    """
    wanted = _by_pins(regressions)
    sides: dict[str, ReleaseOutcomes] = {}
    found: tuple[RegressionFinding, ...] = ()
    for number, (pins, points) in enumerate(wanted.values(), 1):
        named = overlays.told(pins) or "this environment as it is"
        runner.say(f"[{number}/{len(wanted)}] {len(points)} with {named}")
        side = sides[overlays.digest(pins)] = runner.run(pins, points)
        runner.say(f"      {_summary(side)}")
        found = tuple(_finding(one, sides) for one in regressions if _is_known(one, sides))
        keep(found)
    return found


def _is_known(regression: Regression, sides: Mapping[str, ReleaseOutcomes]) -> bool:
    both = [regression.faulty, *([] if regression.fixed is None else [regression.fixed])]
    return all(overlays.digest(pins) in sides for pins in both)


def write(findings: Iterable[RegressionFinding], root: Path) -> Path:
    """Write all findings into one file, and return it."""
    path = state(root) / "regressions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".unfinished")
    draft.write_text(json.dumps(to_json(findings), indent=2) + "\n", encoding="utf-8")
    return draft.replace(path)


def exit_code(findings: Iterable[RegressionFinding]) -> ExitCode:
    """Return 0 if all were detected, 6 if all that could be installed were, else 1."""
    observed = {one.observed for one in findings}
    if observed <= {"detected"}:
        return ExitCode.PASSED
    return ExitCode.MACHINE if observed <= {"detected", "unavailable"} else ExitCode.FAILED


def to_json(findings: Iterable[RegressionFinding]) -> dict[str, Any]:
    """Return plain data; docs/regressions.md says what the keys mean."""
    return {"schema_version": SCHEMA_VERSION, "rows": [asdict(one) for one in findings]}


def _by_pins(regressions: Iterable[Regression]) -> Mapping[str, tuple[Pins, list[Point]]]:
    """Return each set of releases, and what is to be run with it: no cell twice."""
    found: dict[str, tuple[Pins, dict[str, Point]]] = {}
    for one in regressions:
        sides: list[tuple[Pins, tuple[Point, ...]]] = [(one.faulty, (*one.cells, *one.control))]
        if one.fixed is not None:
            sides.append((one.fixed, one.cells))
        for pins, points in sides:
            _, there = found.setdefault(overlays.digest(pins), (pins, {}))
            there |= {point.id: point for point in points}
    return {name: (pins, list(there.values())) for name, (pins, there) in found.items()}


def _finding(regression: Regression, sides: Mapping[str, ReleaseOutcomes]) -> RegressionFinding:
    row = regression.row
    faulty = sides[overlays.digest(regression.faulty)]
    fixed = None if regression.fixed is None else sides[overlays.digest(regression.fixed)]
    decision = _decision(regression, faulty, fixed)
    used = [name for point in regression.cells for name in (point.id, *point.arms)]
    both = [faulty, *([fixed] if fixed else [])]
    return RegressionFinding(
        id=row.id,
        link=row.link,
        shows=row.shows,
        packages={"faulty": regression.faulty, "fixed": regression.fixed},
        expected=row.expected.model_dump(exclude_none=True),
        observed=decision.observed,
        reason=decision.reason,
        check=decision.check,
        seconds=round(sum(side.seconds.get(name, 0.0) for side in both for name in used), 1),
    )


def _decision(
    regression: Regression, faulty: ReleaseOutcomes, fixed: ReleaseOutcomes | None
) -> Decision:
    for name, side in (("faulty", faulty), ("fixed", fixed)):
        if side is not None and side.lacking:
            return Decision("unavailable", f"{name} side can't be installed: {side.lacking}")
    return decide(
        regression.row.expected,
        [faulty.seen[one.id] for one in regression.cells],
        [fixed.seen[one.id] for one in regression.cells] if fixed else [],
        [faulty.seen[one.id] for one in regression.control],
        regression.known,
    )


def _summary(side: ReleaseOutcomes) -> str:
    if side.lacking:
        return f"can't be installed: {side.lacking.splitlines()[-1]}"
    lines = [
        f"{one.id}: {one.problem or ', '.join(f.name for f in one.failed) or 'passed'}"
        for one in side.seen.values()
    ]
    return "\n      ".join(_short(line) for line in lines)


def _short(line: str) -> str:
    first = line.partition("\n")[0]
    return first if len(first) <= 160 else f"{first[:159]}…"
