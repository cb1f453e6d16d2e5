"""A trainer's log must show all of its steps, and losses that are finite and within bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tunematrix.checks.bound import AtLeast, Exactly, between
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import Command, LoggedStep, LogSource, NoTrainerLog
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import logged_losses

SUDDEN = 0.1
"""No honest loss falls from above this (nats) to exactly 0 from one line to the next."""


@check(
    name="trainer_log",
    group="log",
    reads=(LogSource, NoTrainerLog),
    only_with=Command,
    unit="logs",
    bug="the log of another run; an output folder that the trainer ignores; an unknown form of log",
)
def trainer_log(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The log of a trainer's command was found, and this run wrote it.

    Reads what was found below the output folder and in stdout, or what was looked at in vain.
    Fails when no reader recognised a log that is newer than the run's begin. Not judged with
    `min_steps_logged: 0`.
    """
    if not claim.spec.min_steps_logged:
        return None
    failed = evidence.one(NoTrainerLog)
    reason = "the command didn't come to write one" if failed is None else failed.reason
    message = f"no log was found: {reason}"
    return judge_by(Exactly(1), len(evidence.all(LogSource)), message)


@check(
    name="steps_logged",
    group="log",
    reads=(LoggedStep,),
    unit="lines",
    bug="`max_steps` below `logging_steps`; the wrong log, or an old one",
)
def steps_logged(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The log has a line for each step that the settings ask for.

    Reads the training lines of the log. Fails when there are fewer than `min_steps_logged`, or,
    with tunematrix's own engines, when one is absent that `train.logging_steps` asks for.
    """
    count = len(evidence.all(LoggedStep))
    wanted = claim.spec.min_steps_logged
    if evidence.one(NoTrainerLog) is not None:
        return None  # trainer_log has said so
    if not claim.config.recipe.trains:  # a trainer that our settings don't reach
        lines = "line was" if count == 1 else "lines were"
        message = f"{count} training {lines} logged; {_too_few(evidence)}"
        return judge_by(AtLeast(wanted), count, message)
    every, steps = claim.config.train.logging_steps, claim.config.train.max_steps
    lost = {*range(every, steps + 1, every)} - {step for step, _ in logged_losses(evidence)}
    cause = (
        f"train.max_steps={steps} is below train.logging_steps={every}, so no line is ever "
        "written: raise the one or lower the other"
        if steps < every
        else f"training was to log every {every} of {steps} steps and didn't after "
        f"{listed([str(step) for step in sorted(lost)]) or 'any'}; it ended early, its log wasn't "
        "read, or lost lines"
    )
    due = max(wanted, steps // every)
    return judge_by(AtLeast(due), count, cause, provided=not lost)


@check(
    name="finite_loss",
    group="log",
    reads=(LoggedStep,),
    unit="lines",
    bound_in="loss",
    bug=(
        "overflow in half precision, which Trainer's default hides by logging an older loss "
        "([MiniCPM-V#212](https://github.com/OpenBMB/MiniCPM-V/issues/212) shows the zeros "
        "that result)"
    ),
)
def finite_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """No logged loss is nan or infinite, and training didn't end in nan.

    Reads every logged loss and gradient norm. Fails when a loss is nan or infinite, when the last
    gradient norm is nan, when a loss falls from above 0.1 to exactly 0 (transformers logs that in
    the place of nan), or when a recipe that owes a log logged none. Not judged with
    `loss.no_nan: false`.
    """
    if not claim.spec.loss.no_nan or evidence.one(NoTrainerLog) is not None:
        return None
    losses = logged_losses(evidence)
    if not losses:
        return missing("a logged loss") if "log" in claim.config.recipe.owes else None
    bad = [f"step {step} logged {loss}" for step, loss in losses if not math.isfinite(loss)]
    bad += _hidden_nan(evidence, losses)
    first = bad[0] if bad else ""
    message = f"{first}; likely an overflow in half precision or a learning rate that is too high"
    return judge_by(Exactly(0), len(bad), message)


@check(
    name="first_logged_loss",
    group="log",
    reads=(LoggedStep,),
    unit="nats",
    bound_in="loss",
    bug="a loss that starts too high and then falls, which looks like learning",
)
def first_logged_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The first logged loss is within the spec's bounds.

    Reads the first logged loss. Fails when it is outside `loss.first_min` to `loss.first_max`.
    """
    bounds = claim.spec.loss
    cause = "likely a base that loaded as something else, or a loss over another divisor"
    return _logged(evidence, 0, bounds.first_min, bounds.first_max, cause)


@check(
    name="final_loss",
    group="log",
    reads=(LoggedStep,),
    unit="nats",
    bound_in="loss",
    bug="training that converges worse than before, or suspiciously well",
)
def final_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The last logged loss is within the spec's bounds.

    Reads the last logged loss. Fails when it is outside `loss.final_min` to `loss.final_max`.
    """
    bounds = claim.spec.loss
    cause = "likely too few steps, another learning rate, or other labels or data than before"
    return _logged(evidence, -1, bounds.final_min, bounds.final_max, cause)


def _too_few(evidence: Evidence) -> str:
    """Say why a trainer's command has logged less than it should."""
    command = evidence.one(Command)
    arguments = {} if command is None else command.arguments
    steps, every = arguments.get("max_steps", ""), arguments.get("logging_steps", "")
    if steps.isdigit() and every.isdigit() and int(steps) < int(every):
        return f"max_steps {steps} is below logging_steps {every}: raise the one or lower the other"
    if steps.isdigit():
        return (
            f"likely max_steps ({steps}) is below the logging_steps of its configuration, and a "
            "line is written every so many steps: raise max_steps to logging_steps + 1"
        )
    return "it ended early, or its log wasn't read"


def _hidden_nan(evidence: Evidence, losses: Sequence[tuple[int, float]]) -> list[str]:
    """Name the signs of nan in a log whose losses are finite."""
    signs = [
        f"step {step} logged a loss of exactly 0 after {before:.4g}, as Trainer does in place of "
        "nan (logging_nan_inf_filter)"
        for (_, before), (step, loss) in pairwise(losses)
        if loss == 0 and SUDDEN < before < math.inf
    ]
    norms = [(s.step, s.gradient_norm) for s in evidence.all(LoggedStep) if s.gradient_norm]
    if norms and math.isnan(norms[-1][1]):
        signs.append(f"step {norms[-1][0]} logged a gradient norm of nan")
    return signs


def _logged(
    evidence: Evidence, position: int, low: float | None, high: float | None, cause: str
) -> Judgement | None:
    if low is None and high is None:
        return None
    losses = logged_losses(evidence)
    if not losses:
        return missing("a logged loss")
    step, loss = losses[position]
    message = f"step {step} logged {loss:.4g} nats per token; {cause}"
    return judge_by(between(low, high), loss, message)
