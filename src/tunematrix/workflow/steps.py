"""The steps of a cell's way, each of which finds out one thing more; `CELL` is all of them.

Whoever wants another way makes another tuple: doctor exchanges the recipe, and a test of a fault
stops where the checks have spoken.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from tunematrix.baselines.holding import against
from tunematrix.checks.judge import judge as judge_evidence
from tunematrix.errors import Unavailable
from tunematrix.evidence import collect as collect_evidence
from tunematrix.evidence import figures
from tunematrix.evidence.events import Refused
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.paths import shown
from tunematrix.results.outcome import settle
from tunematrix.results.record import machine
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, Step
from tunematrix.workflow.records import record_of


def find_place(passage: Passage, context: RunContext) -> Passage:
    """Ask where cells run whether the libraries of this one are there.

    Raises:
        Unavailable: one of them isn't.
    """
    if obstacle := context.obstacle(passage.cell):
        raise Unavailable(obstacle)
    return passage


def compose(passage: Passage, context: RunContext) -> Passage:
    """Merge the cell's options and overrides to its configuration."""
    return replace(passage, config=context.compose(passage.cell))


def find_devices(passage: Passage, context: RunContext) -> Passage:
    """Ask there whether a command has as many GPUs as it needs.

    Raises:
        Unavailable: it hasn't.
    """
    if obstacle := context.shortage(passage.cell, passage.claim.config):
        raise Unavailable(obstacle)
    return passage


def prepare(passage: Passage, context: RunContext) -> Passage:
    """Do what its options need done once, and claim its device.

    Raises:
        Unavailable: the device can't be used.
        MachineProblem: a preparation failed.
    """
    context.prepare(passage.claim.config)
    return passage


def make_folder(passage: Passage, context: RunContext) -> Passage:
    """Make the cell's folder, and write into it what is to be run."""
    context.claim_folder()
    cell = passage.cell
    run_dir = RunDir.create(context.run_folder, cell.id)
    run_dir.write_cell(CellFile(cell.id, passage.claim.config, (*context.faults, *cell.faults)))
    return replace(passage, run_dir=run_dir)


def execute(passage: Passage, context: RunContext) -> Passage:
    """Have the cell run where cells run, and wait for its end."""
    assert passage.run_dir is not None
    executor, limit = context.executor_of(passage.cell), passage.cell.spec.timeout
    end = executor.run(passage.run_dir, limit, context.poll)
    return replace(passage, exit=end)


def collect(passage: Passage, context: RunContext) -> Passage:
    """Read what it left behind."""
    assert passage.run_dir is not None and passage.exit is not None
    return replace(passage, evidence=collect_evidence(passage.run_dir, passage.exit))


def judge(passage: Passage, context: RunContext) -> Passage:
    """Hold that against what the cell claims."""
    assert passage.evidence is not None
    return replace(passage, verdicts=judge_evidence(passage.evidence, passage.claim))


def record(passage: Passage, context: RunContext) -> Passage:
    """Settle the outcome, and keep of the cell what is worth keeping."""
    run_dir, evidence, verdicts = passage.run_dir, passage.evidence, passage.verdicts
    assert run_dir is not None and evidence is not None
    outcome, reason, link = settle(verdicts, evidence, passage.expected)
    if outcome in ("failed", "known_failure") and (refused := evidence.one(Refused)):
        outcome, reason, link = "unavailable", str(refused.obstacle), ""
    if outcome in ("passed", "known_failure") and not context.keep_output:
        shutil.rmtree(run_dir.output, ignore_errors=True)
    kept = record_of(
        passage.cell,
        context,
        outcome=outcome,
        reason=reason,
        link=link,
        checks=verdicts,
        metrics=figures.metrics(evidence),
        durations=figures.durations(evidence),
        versions=figures.versions(evidence),
        machine={**machine(), **figures.conditions(evidence)},
        run_dir=shown(run_dir.path),
        losses=figures.loss_curve(evidence),
        stderr="" if outcome == "passed" else figures.last_lines(evidence),
    )
    return replace(passage, record=kept)


def hold(passage: Passage, context: RunContext) -> Passage:
    """Hold its figures against what they were in honest runs."""
    assert passage.record is not None
    return replace(passage, record=against(passage.record, context.baselines))


READY: tuple[Step, ...] = (find_place, compose, find_devices, prepare)
"""Until nothing but the run itself is missing."""

EVIDENCE: tuple[Step, ...] = (*READY, make_folder, execute, collect)
"""Until the cell has run."""

VERDICTS: tuple[Step, ...] = (*EVIDENCE, judge)
"""Until the checks have spoken."""

CELL: tuple[Step, ...] = (*VERDICTS, record, hold)
"""The whole way of a cell."""
