"""One command that is watched: run here, judged by what the probe saw, recorded like a cell."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunematrix.checks.watched import WATCHED_CHECK, device_of, seen_in, versions_of
from tunematrix.configuration.watch import Watch
from tunematrix.environments.table import WATCHED, Environment
from tunematrix.errors import BadInput, ExitCode
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import made, project_root, shipped_configs
from tunematrix.report.again import COMMAND
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.run.executor import Poll
from tunematrix.spec.model import LONGEST
from tunematrix.watching.asking import watched_cell, watched_config
from tunematrix.watching.executor import INTERRUPT, WatchedCommand
from tunematrix.workflow import steps as way
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry
from tunematrix.workflow.records import without_secrets

NO_LIMIT = LONGEST
"""Seconds that stand for no limit at all."""
_NAME = re.compile(r"[^a-z0-9_-]+")
_PYTHON = re.compile(r"^python[\d.]*$|^(accelerate|torchrun|deepspeed|uv|env|nice|time)$")


@dataclass
class WatchContext(RunContext):
    """What watching needs of a run.

    Attributes:
        into: the folder that records and evidence go to; None: the project's own for that.
    """

    into: Path | None = None

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return super().folder if self.into is None else self.into


@dataclass(frozen=True)
class WatchedRun:
    """What came of a command.

    Attributes:
        record: of it. what: was watched, in a line.
        was_interrupted: whether the user has ended it.
    """

    record: Record
    what: str
    was_interrupted: bool

    @property
    def exit_code(self) -> ExitCode:
        """What the process ends with: a command in which nothing was watched tested nothing."""
        if self.record.outcome == "passed":
            return ExitCode.PASSED
        if self.record.outcome == "error":
            return ExitCode.MACHINE
        found = {check.name: check.measured for check in self.record.failed_checks}
        return ExitCode.NOTHING_TESTED if found == {WATCHED_CHECK: 0} else ExitCode.FAILED


def watch_command(
    words: Sequence[str],
    asked: Watch,
    timeout: int,
    into: Path | None,
    poll: Callable[[RunDir], Poll],
) -> WatchedRun:
    """Run a command under the probe, judge and record it, also where the user ends it by Ctrl-C.

    Args:
        words: the command. asked: of its training. timeout: seconds that it may take.
        into: the folder for its record and its evidence; None for the project's.
        poll: makes of its folder what is called while it runs.

    Raises:
        BadInput: there is no such program. MachineProblem: nothing can be run, or written.
    """
    if not words or shutil.which(words[0]) is None:
        raise BadInput(_no_program(words))
    context = _context(into)
    made(context.folder)
    cell = watched_cell(name_of(words), context.groups, timeout)
    config = watched_config(cell, context.groups, asked)
    passage = way.make_folder(Passage(cell, config=config), context)
    assert passage.run_dir is not None
    try:
        show = poll(passage.run_dir)
        end = WatchedCommand(words).run(passage.run_dir, timeout, show)
        show(end.seconds)
        rest = (way.collect, way.judge, way.record)
        passage = carry(replace(passage, exit=end), context, rest)
        assert passage.record is not None and passage.evidence is not None
        record = _told(passage.record, passage.evidence, words)
        Store(context.folder / "results.jsonl").append(record)
        return WatchedRun(
            record, seen_in(passage.evidence), was_interrupted=end.signal == INTERRUPT
        )
    finally:
        context.close(prune=True)


def name_of(words: Sequence[str]) -> str:
    """Return what a command is called in records: after its script, or its program."""
    words = words[: words.index("-c")] if "-c" in words else words
    named = [word for word in words if not word.startswith("-") and "=" not in word]
    programs = [word for word in named if not _PYTHON.match(Path(word).name)]
    chosen = next((word for word in programs if word.endswith(".py")), "") or (
        programs[0] if programs else Path(words[0]).name
    )
    return _NAME.sub("-", Path(chosen).stem.lower()).strip("-")[:100] or "command"


def _no_program(words: Sequence[str]) -> str:
    if not words:
        return "watch: there is no command; write tunematrix watch -- python train.py"
    text = f"watch: there is no program {words[0]}; correct the command, or activate the virtualenv"
    return f"{text} that it is in"


def _context(into: Path | None) -> WatchContext:
    return WatchContext(
        environment=Environment(WATCHED, "", ()),
        groups=read_groups((shipped_configs(),)),
        run_id=time.strftime("%Y%m%d-%H%M%S-") + str(os.getpid()),
        root=project_root(Path.cwd()),
        isolation="foreground",
        faults=(),
        keep_output=True,
        say=lambda text: None,
        into=None if into is None else into.resolve(),
    )


def _told(record: Record, evidence: Evidence, words: Sequence[str]) -> Record:
    """Return a record that says what was run, and on what kind of device."""
    device = device_of(evidence)
    told = replace(
        record,
        versions=versions_of(evidence),
        axes={"recipe": WATCHED, **({"backend": device} if device else {})},
        backend=device,
        overrides={COMMAND: tuple(words)},
    )
    return without_secrets(told)
