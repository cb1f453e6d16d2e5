"""Steps put in order, each once, though ranks repeat them and runs are resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.values import first_number, first_step, number, recognise

MOST_STEPS = 100_000
"""More aren't kept, so that memory stays bounded; no test of a trainer needs them."""


class StepList:
    """Collects steps as lines come in.

    A step that comes again replaces the earlier one (each rank prints its own), unless that
    would hide a nan. A number that falls means that the trainer resumed or began again: what
    was logged after that number is dropped. Where the epoch has risen at the same time, the
    trainer counts anew in each epoch, and the steps are counted on.
    """

    def __init__(self) -> None:
        self._steps: list[LoggedStep] = []
        self._epoch: float | None = None
        self._offset = 0

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def steps(self) -> tuple[LoggedStep, ...]:
        """The steps that have a loss."""
        return tuple(step for step in self._steps if step.loss is not None)

    def add(self, step: LoggedStep, epoch: float | None = None) -> None:
        """Take in one step.

        Raises:
            ValueError: there are more than can be kept.
        """
        steps = self._steps
        if not steps or step.step + self._offset <= steps[-1].step:
            self._count_on(step, epoch)
        self._epoch = epoch if epoch is not None else self._epoch
        if self._offset:
            step = replace(step, step=step.step + self._offset)
        while steps and steps[-1].step > step.step:
            steps.pop()
        if steps and steps[-1].step == step.step:
            steps[-1] = _merged(steps[-1], step)
            return
        if len(steps) >= MOST_STEPS:
            raise ValueError(f"it has more than {MOST_STEPS} steps; let the trainer log less often")
        steps.append(step)

    def _count_on(self, step: LoggedStep, epoch: float | None) -> None:
        """Decide how to number a step whose number isn't above the last one's."""
        if not self._steps or epoch is None or self._epoch is None:
            return
        if epoch > self._epoch and epoch == int(epoch):
            self._offset = self._steps[-1].step + (step.step == 0)
        elif epoch < self._epoch:
            self._offset = 0


def _merged(earlier: LoggedStep, later: LoggedStep) -> LoggedStep:
    """Return one step out of two lines: each value from the later line that has it."""

    def value(old: float | None, new: float | None) -> float | None:
        hidden = old is not None and not math.isfinite(old)
        return old if new is None or hidden else new

    return LoggedStep(
        later.step,
        value(earlier.loss, later.loss),
        value(earlier.gradient_norm, later.gradient_norm),
        value(earlier.learning_rate, later.learning_rate),
    )


def step_of(record: Mapping[str, object], ordinal: int) -> LoggedStep | None:
    """Return the step that a record logs; None where it has no training loss.

    Args:
        record: what a trainer logged at once, by the names that it uses.
        ordinal: number of the step where the record has none.
    """
    if any(name.endswith("_runtime") for name in record):  # the summary of a whole run
        return None
    names = recognise(record)
    if (loss := first_number(record, names.losses)) is None:
        return None
    step = first_step(record, names.steps)
    return LoggedStep(
        ordinal if step is None else step,
        loss,
        first_number(record, names.norms),
        first_number(record, names.rates),
    )


def epoch_of(record: Mapping[str, object]) -> float | None:
    """Return the epoch that a record names."""
    return number(record.get("epoch"))
