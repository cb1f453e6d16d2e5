"""The learning rates that a watched process steps with, and the schedule that sets them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tunematrix.checks.bound import AtMost, Between, Bound
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, Outcome, judge_by
from tunematrix.checks.watched import trainers_in, worst_of
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import ProbeStarted, SeenScheduler, SeenStep

LEAST_CALLS = 3
"""Steps below which the pace of a schedule can't be told."""
LEAST_SILENT = 5
"""Steps after which a scheduler should have been called, if only once an epoch."""
PACE = 1.5
"""Calls of a scheduler in a step that are too many."""


@check(
    name="watched_learning_rate",
    group="watch",
    unit="learning rate",
    bug="a scheduler that never leaves 0, a warm-up that is longer than the run",
)
def watched_learning_rate(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The learning rate that optimizers step with is a number above 0.

    Reads the rates of each group at each step, from the optimizers themselves. Fails when all of
    them are 0 in all steps, or one is negative or no number. Warns when the first step is made at a
    rate of 0, as a linear warm-up does, or the rates of one group are 0 throughout.
    """
    steps = [
        step
        for process in trainers_in(evidence, "watched_learning_rate")
        for step in process.all(SeenStep)
    ]
    rates = [rate for step in steps for rate in step.learning_rates]
    if not rates:
        return None
    bound = Between(0, math.inf, note="and above 0 in some step")
    wrong = [rate for rate in rates if not math.isfinite(rate) or rate < 0]
    if wrong:
        return judge_by(bound, wrong[0], "a step was made at this learning rate", provided=False)
    if not any(rates):
        text = (
            f"it is 0 in all of {counted(len(steps), 'step')}, so nothing was trained; likely a "
            "warm-up that is longer than the run, or a scheduler that was given no steps"
        )
        return judge_by(bound, 0.0, text, provided=False)
    if idle := _idle_groups(steps):
        text = f"the rate of {counted(idle, 'group')} of tensors is 0 in all steps"
        return Judgement("warned", 0.0, bound, text)
    first = min(step.step for step in steps)
    begin = [rate for step in steps if step.step == first for rate in step.learning_rates]
    if len(steps) > 1 and not any(begin):
        text = "the first step is made at a learning rate of 0, so its batch teaches nothing"
        return Judgement("warned", 0.0, bound, text)
    return Judgement("passed", max(rates), bound, "")


def _idle_groups(steps: Sequence[SeenStep]) -> int:
    most: dict[tuple[int, int], float] = defaultdict(float)
    for step in steps:
        for group, rate in enumerate(step.learning_rates):
            most[step.optimizer, group] = max(most[step.optimizer, group], rate)
    return sum(rate == 0 for rate in most.values())


@check(
    name="watched_schedule",
    group="watch",
    unit="calls per step",
    bug=(
        "a scheduler that is stepped twice, by the loop and by the library, or in each "
        "micro-batch; one that is never stepped, or belongs to an optimizer that was replaced"
    ),
)
def watched_schedule(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A learning-rate scheduler is stepped as often as its optimizer, or once in a while.

    Reads the calls of each scheduler, and the steps of its optimizer since. Fails when there are
    more than 1.5 calls for each step, unless there are as many as processes train together, as
    Accelerate means it; when there is none in five steps or more; when the first call comes before
    the optimizer's first step; or when the scheduler's optimizer never stepped. Warns when one that
    is made for a number of steps was called in less than half of them. Schedulers that wait for a
    metric may be called as seldom as they like. A GradScaler may skip the first step.
    """
    found = [
        verdict
        for process in trainers_in(evidence, "watched_schedule")
        for verdict in _schedules(process)
    ]
    return worst_of(found)


def _schedules(process: WatchedProcess) -> Iterator[Judgement]:
    started = process.one(ProbeStarted)
    together = 1 if started is None else started.world_size
    scaled = any(step.scaler is not None for step in process.all(SeenStep))
    last = {one.scheduler: one for one in process.all(SeenScheduler)}
    for one in last.values():
        yield _schedule(one, together, scaled=scaled)


def _schedule(one: SeenScheduler, together: int, *, scaled: bool) -> Judgement:
    bound = AtMost(PACE, note="and some")
    if one.optimizer is None:
        text = (
            f"the optimizer of {one.name} never made a step, and another one trains; likely the "
            "optimizer was made anew, or wrapped, after its scheduler"
        )
        # Several optimizers may take turns, and a run may end before the turn of one.
        outcome: Outcome = "failed" if one.calls else "warned"
        return Judgement(outcome, "another optimizer", bound, text, "")
    pace = one.calls / max(1, one.steps)
    if one.calls == 0:
        text = f"{one.name} was made and never stepped in {counted(one.steps, 'step')}"
        if one.by_metric or one.steps < 2:
            return Judgement("passed", pace, bound, "")
        is_long = one.steps >= LEAST_SILENT
        return Judgement("failed" if is_long else "warned", pace, bound, f"{text}; call it")
    if one.before_first:
        text = (
            f"{one.name} was stepped {counted(one.before_first, 'time')} before the optimizer's "
            "first step, so the first rate of the schedule is left out; call it after the optimizer"
        )
        return Judgement("warned" if scaled else "failed", pace, bound, text)
    is_meant = together > 1 and abs(pace - together) < 0.5
    if one.steps >= LEAST_CALLS and pace > PACE and not is_meant:
        text = (
            f"{one.name} was stepped {one.calls} times in {counted(one.steps, 'step')}, so the "
            "schedule runs ahead; likely a library steps it, too, or each micro-batch does"
        )
        return judge_by(bound, pace, text)
    return _by_length(one, pace, bound)


def _by_length(one: SeenScheduler, pace: float, bound: Bound) -> Judgement:
    """Judge how far a scheduler came that says what it was made for."""
    due = one.steps if one.length is None else min(one.length, one.steps)
    if one.length is None or one.calls * 2 >= due or one.by_metric:
        return Judgement("passed", pace, bound, "")
    text = (
        f"{one.name} is made for {counted(one.length, 'call')}, and had {one.calls} in "
        f"{counted(one.steps, 'step')}; likely it is meant for steps, and called once an epoch"
    )
    return Judgement("warned", pace, bound, text)
