"""Cells and relations with a set of packages → their records, from a process of its own.

Nothing that is known is run again: the records of a set lie in a folder that is named for what the
set holds, and one counts as long as the spec and the code are those that it was made with.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tunematrix.baselines.kept import FOLDER
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import STATE, made, shown, state
from tunematrix.project import Project
from tunematrix.results.code_state import code_state
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.run.local.process_tree import die_with_parent
from tunematrix.versions import overlays, room
from tunematrix.versions.index import Index, download_size
from tunematrix.versions.overlays import IndexUnreachable, NotInstalled
from tunematrix.versions.points import Point
from tunematrix.versions.sets import TORCH, Beneath, PackageSet

RAN = (0, 1)
"""pytest's exit codes of a run whose records tell all."""
PATIENCE = 30
"""Seconds that an interrupted run has to write its records."""
CODE = "code"
"""The fact of a record that tells the code that it was made with."""
LOG = "pytest.log"
"""What a run printed, in its folder."""


@dataclass(frozen=True)
class Trial:
    """What a set of packages made of the cells and relations that were tried with it.

    Attributes:
        packages: the set.
        records: by the id of a cell or a relation, arms included, each run of it, oldest first.
        problem: why something left no record, such as an import that fails; empty where all did.
        lacking: why the set couldn't be installed; empty where it could.
        root: the folder that the run folders of its records are relative to.
        ran: whether anything had to be run; all was known if not.
    """

    packages: PackageSet
    records: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    problem: str = ""
    lacking: str = ""
    root: Path = Path()
    ran: bool = False

    def newest(self, id_: str) -> Record | None:
        """Return the newest record of a cell or a relation; None where it left none."""
        found = self.records.get(id_, ())
        return found[-1] if found else None


@dataclass(frozen=True)
class Bench:
    """Where sets of packages are tried.

    Attributes:
        project: whose cells. below: the environment that sets are laid over.
        options: what tells pytest which project this is.
        say: takes a line of progress.
        index: knows what a set is to download.
    """

    project: Project
    below: Beneath
    options: Sequence[str]
    say: Callable[[str], None]
    index: Index = field(default_factory=Index)

    @property
    def folder(self) -> Path:
        """Where trials leave everything, apart from the project's own records."""
        return state(self.project.root) / "versions"

    @property
    def overlays(self) -> Path:
        """Where overlays are kept."""
        return overlays.folder_of(self.project.root)

    @cached_property
    def code(self) -> Mapping[str, str]:
        """Which code a record is of that counts."""
        besides = [state(self.project.root), *(r / FOLDER for r in self.project.groups.roots)]
        return code_state(self.project.root, besides)

    def known(self, packages: PackageSet, points: Sequence[Point]) -> Trial:
        """Return what is known of a set already, without running anything."""
        place = self.folder / packages.digest
        specs = {point.id: point.spec for point in points}
        arms = {arm for point in points for arm in point.arms}
        found = defaultdict[str, list[Record]](list)
        for record in Store(place / self.project.environment.name / "results.jsonl").read():
            is_of_spec = specs.get(record.cell_id, record.spec_digest) == record.spec_digest
            is_of_code = record.machine.get(CODE) == self.code.get(CODE)
            if (record.cell_id in specs or record.cell_id in arms) and is_of_spec and is_of_code:
                found[record.cell_id].append(record)
        records = {name: tuple(runs) for name, runs in found.items()}
        return Trial(packages, records, root=self.project.root)

    def run(self, packages: PackageSet, points: Sequence[Point], times: int = 1) -> Trial:
        """Try points with a set of packages, as often as they weren't yet.

        Args:
            packages: the set. points: cells and relations. times: how many records each must have.

        Raises:
            BadInput: the code was changed meanwhile.
            MachineProblem: there is no space left for the set.
        """
        trial = self.known(packages, points)
        for count in range(1, times + 1):
            waiting = [one for one in points if len(trial.records.get(one.id, ())) < count]
            if waiting:
                trial = self._run(packages, points, waiting)
                if trial.problem or trial.lacking:
                    return trial
        return trial

    def _run(
        self, packages: PackageSet, points: Sequence[Point], waiting: Sequence[Point]
    ) -> Trial:
        place = made(self.folder / packages.digest)
        try:
            with self.lent(packages) as overlay:
                name = self.project.environment.name
                options = (*self.options, f"--environment={name}")
                code = pytest_run(self.project.root, options, overlay, place, waiting)
        except IndexUnreachable:
            raise  # that says nothing about the set
        except NotInstalled as error:
            return Trial(packages, lacking=str(error), root=self.project.root)
        known = self.known(packages, points)
        absent = [one.id for one in waiting if not known.records.get(one.id)]
        if absent and replace(self).code.get(CODE) != self.code.get(CODE):
            text = "the code has changed while it was tried, so its records don't count"
            raise BadInput(f"{packages.asked}: {text}; run this again")
        if absent and room.is_full(place, ""):
            raise MachineProblem(f"{shown(place)}: {room.NO_SPACE}")
        problem = f"pytest ended with exit code {code}: {last_line(place)}" if absent else ""
        return Trial(packages, known.records, problem, root=self.project.root, ran=True)

    @contextmanager
    def lent(self, packages: PackageSet) -> Iterator[Path | None]:
        """Yield the overlay of a set, made where there is none; None for the environment itself.

        Raises:
            NotInstalled: it can't be made. MachineProblem: there is no space for it.
        """
        pins = packages.over(self.below.packages)
        if TORCH in pins and not (self.overlays / overlays.digest(pins)).exists():
            size = download_size(pins, self.index) / room.GB
            self.say(f"another PyTorch: {size:.1f} GB to download, some twice that on the disk")
        with overlays.lent(pins, self.project.root, self.say) as overlay:
            yield overlay


def pytest_run(
    root: Path,
    options: Sequence[str],
    overlay: Path | None,
    place: Path,
    points: Sequence[Point],
) -> int:
    """Run points with an overlay in front, in a process of its own; return pytest's exit code.

    Args:
        root: the project. options: what tells pytest which project and environment.
        overlay: the folder with other versions; None for none.
        place: where the run leaves its records, its evidence and what it printed.
        points: what to run.
    """
    nodes = [point.node for point in points]
    command = [sys.executable, "-m", "pytest", *options, "-v", "-p", "no:cacheprovider", *nodes]
    environment = {**os.environ, **overlays.paths(overlay, os.environ), STATE: str(place)}
    # An item's failure would be repeated by the command of another session.
    environment.pop("NOX_CURRENT_SESSION", None)
    with (place / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
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


def last_line(place: Path) -> str:
    """Return the last line that a run printed."""
    text = (place / LOG).read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
