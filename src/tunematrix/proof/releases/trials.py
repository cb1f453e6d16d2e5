"""Regressions → findings: each set of releases is run once, with the cells of all its rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunematrix.environments.locks import normalized
from tunematrix.errors import ExitCode
from tunematrix.evidence.events import Raised
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.paths import STATE, state
from tunematrix.proof.releases import overlays
from tunematrix.proof.releases.overlays import NotInstalled
from tunematrix.proof.releases.table import Pins, Point, Regression
from tunematrix.proof.releases.verdicts import Decision, Observed, Seen, decide
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.run.local.process_tree import die_with_parent

SCHEMA_VERSION = 1
AS_IT_IS = "as-it-is"
"""Names the environment without an overlay."""
RAN = (0, 1)
"""pytest's exit codes of a run whose records tell all."""
PATIENCE = 30
"""Seconds that an interrupted run has to write its records."""


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
            cache = state(self.root) / "overlays"
            overlay = overlays.overlay(pins, cache, self.say) if pins else None
        except NotInstalled as error:
            return ReleaseOutcomes(lacking=str(error))
        place = self.folder / (overlay.name if overlay else AS_IT_IS)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        code = self._pytest(overlay, place, points)
        records = Store(place / self.environment / "results.jsonl").read()
        by_id = {record.cell_id: record for record in records}
        problem = "" if code in RAN else f"pytest ended with {code}: {_last_line(place)}"
        seen = {one.id: self._seen(one, by_id, pins, problem) for one in points}
        seconds = {name: record.durations.get("total", 0.0) for name, record in by_id.items()}
        return ReleaseOutcomes(seen, seconds)

    def _pytest(self, overlay: Path | None, place: Path, points: Sequence[Point]) -> int:
        nodes = [point.node for point in points]
        ours = ["-v", "-p", "no:cacheprovider", f"--environment={self.environment}"]
        command = [sys.executable, "-m", "pytest", *self.options, *ours, *nodes]
        environment = {**os.environ, **overlays.paths(overlay, os.environ), STATE: str(place)}
        # An item's failure would be repeated by the command of another session.
        environment.pop("NOX_CURRENT_SESSION", None)
        with (place / "pytest.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # or a killed driver would leave it running
            )
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.wait(PATIENCE)
                raise
            finally:
                process.kill()

    def _seen(self, point: Point, records: Mapping[str, Record], pins: Pins, problem: str) -> Seen:
        """Read what a cell left behind, or a relation and its arms."""
        record = records.get(point.id)
        if record is None:
            return Seen(point.id, ended=False, problem=problem or "it left no record")
        if record.outcome == "unavailable":
            return Seen(point.id, ended=False, problem=record.reason, unavailable=True)
        if wrong := _other_versions(record, pins):
            return Seen(point.id, ended=False, problem=f"it ran with {wrong}")
        raised = self._raised(record)
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

    def _raised(self, record: Record) -> Raised | None:
        if not record.run_dir:
            return None
        file = RunDir(self.root / record.run_dir).events
        events = read_events(file) if file.exists() else ()
        return next((event for event in events if isinstance(event, Raised)), None)


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


def _other_versions(record: Record, pins: Pins) -> str:
    """Name what a cell imported in place of a pinned release."""
    wanted = {normalized(name): version for name, version in pins.items()}
    return ", ".join(
        f"{name} {version} in place of {wanted[name]}"
        for name, version in record.versions.items()
        if version.partition("+")[0] != wanted.get(name, version).partition("+")[0]
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


def _last_line(place: Path) -> str:
    text = (place / "pytest.log").read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
