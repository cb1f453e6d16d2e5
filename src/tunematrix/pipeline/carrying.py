"""One step as a command: a config → a cell with that step alone, carried here, judged and shown."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunematrix.configuration.section import PipelineStep
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.configuration.variables import kept
from tunematrix.environments.table import Environment
from tunematrix.errors import (
    BadInput,
    MachineProblem,
    StepFailed,
    TunematrixError,
    Unavailable,
    did_you_mean,
)
from tunematrix.evidence.events import Raised, Refused, StepProblem
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.log import EventTail
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import project_root, shipped_configs, shown
from tunematrix.pipeline.settings import StepConfig
from tunematrix.pipeline.view import StepView
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Route
from tunematrix.workflow import steps as way
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, Step, carry

FOLDER = "steps"
"""Where steps leave their evidence, as the cells of an environment do."""
_WEEKS = 30 * 24 * 3600
_LAST_LINES = 5
_HOW_IT_ENDS: tuple[type[TunematrixError], ...] = (StepFailed, MachineProblem, BadInput)


@dataclass(frozen=True)
class Wish:
    """What a command line asks for beside its config.

    Attributes:
        name: the step.
        resume: checkpoint to go on from. dry_run: whether nothing is trained or written.
    """

    name: str
    resume: str = ""
    dry_run: bool = False


def carry_step(config: StepConfig[Any], wish: Wish, view: StepView, *, verbose: bool) -> None:
    """Take one step.

    Raises:
        BadInput: an entry of the config can't be used. Unavailable: a device or a library is
            missing. MachineProblem: the disk is full. StepFailed: what came of it isn't right.
        KeyboardInterrupt: the user's; what was saved is kept.
    """
    groups = read_groups((shipped_configs(),))
    cell = _cell(config, wish, groups)
    context = RunContext(
        environment=Environment(FOLDER, "", (cell.axes["backend"],)),
        groups=groups,
        run_id=time.strftime("%Y%m%d-%H%M%S-") + str(os.getpid()),
        root=project_root(Path.cwd()),
        isolation="spawn",
        faults=(),
        keep_output=True,
        say=view.line,
    )
    try:
        with view.open():
            whole = (*way.READY, way.make_folder, _watched(view), way.collect)
            passage = carry(Passage(cell), context, whole)
        _raise_what_happened(config, passage, verbose=verbose, say=view.line)
        failed = [one for one in way.judge(passage, context).verdicts if one.outcome == "failed"]
        if failed:
            raise StepFailed("\n".join(f"{one.name}: {one.message}" for one in failed))
    except (StepFailed, MachineProblem) as error:
        if isinstance(error, Unavailable) or not context.run_folder.is_dir():
            raise
        text = f"{error}\nwhat it left: {shown(context.run_folder)}"
        raise (StepFailed if isinstance(error, StepFailed) else MachineProblem)(text) from None
    shutil.rmtree(context.run_folder, ignore_errors=True)


def _cell(config: StepConfig[Any], wish: Wish, groups: Groups) -> Cell:
    settings: PipelineStep = config.settings
    own = settings.own
    route = (settings.section,) if settings.section else ()
    device = getattr(settings, "device", None)
    if device is None:
        raise _problem(config, ("device",), "is missing; write device: cpu, or add --device cpu")
    if not own.output_dir:
        text = "is missing; name the folder that the step writes to"
        raise _problem(config, (*route, "output_dir"), text)
    quantizer = getattr(own, "quantizer", "") or (
        groups.backend(device).qlora if getattr(own, "method", "") == "qlora" else "none"
    )
    known = groups.axes["quantizer"]
    if quantizer not in known:
        text = f"{quantizer} is no quantizer; {did_you_mean(quantizer, known)}"
        raise _problem(config, (*route, "quantizer"), text)
    # Its variables have their values; what looks like one now is text, such as in a prompt.
    given = {wish.name: kept(settings.model_dump(mode="json"))}
    chain = PipelineSteps.model_validate({**given, "resume": wish.resume, "dry_run": wish.dry_run})
    spec = Spec(
        test_id=wish.name,
        recipe="pipeline",
        matrix=Matrix.of({"quantizer": (quantizer,)}),
        timeout=_WEEKS,
        steps=chain,
    )
    cells, exclusions = expand(spec, groups, [device])
    if not cells:
        reason = exclusions[0].reason if exclusions else "there is no such combination"
        over = "" if quantizer == "none" else f" over {quantizer}"
        raise _problem(config, ("device",), f"{wish.name} on {device}{over}: {reason}")
    return cells[0]


def _problem(config: StepConfig[Any], route: Route, text: str) -> BadInput:
    return BadInput(str(config.problem(route, text)))


def _watched(view: StepView) -> Step:
    """Return the step that runs a cell and shows what it says meanwhile."""

    def execute(passage: Passage, context: RunContext) -> Passage:
        run_dir = passage.run_dir
        assert run_dir is not None
        tail = EventTail(run_dir.events)

        def show(_seconds: float = 0.0) -> None:
            for event in tail.new():
                view.event(event)

        end = context.executor_of(passage.cell).run(run_dir, passage.cell.spec.timeout, show)
        show()
        return replace(passage, exit=end)

    return execute


def _raise_what_happened(
    config: StepConfig[Any], passage: Passage, *, verbose: bool, say: Callable[[str], None]
) -> None:
    evidence = passage.evidence
    assert evidence is not None
    if verbose and evidence.stderr.strip():
        say(evidence.stderr.strip())
    if problem := evidence.one(StepProblem):
        raise _problem(config, problem.route, problem.text)
    if refused := evidence.one(Refused):
        raise Unavailable(refused.obstacle)
    raised = evidence.one(Raised)
    if raised is None and evidence.exit.code == 0:
        return
    raise _error(raised, evidence)


def _error(raised: Raised | None, evidence: Evidence) -> TunematrixError:
    if raised is None:
        last = "\n".join(evidence.stderr.strip().splitlines()[-_LAST_LINES:])
        how = evidence.exit.signal or f"exit code {evidence.exit.code}"
        return MachineProblem(f"the step's process ended with {how}; it said last: {last}")
    for kind in _HOW_IT_ENDS:
        if f"{kind.__module__}.{kind.__qualname__}" in raised.exception:
            return kind(raised.message)
    return StepFailed(
        f"{raised.exception[0]} in {raised.phase or 'the beginning'}: {raised.message}\n"
        "likely the libraries and this model or setting don't fit; --verbose shows all they say"
    )
