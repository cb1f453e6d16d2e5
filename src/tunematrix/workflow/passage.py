"""How far a cell has come, and what takes it on: a tuple of steps over one frozen state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration import Configuration
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import Cell
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.workflow.context import RunContext


@dataclass(frozen=True)
class Passage:
    """How far a cell has come; what a step hasn't found out yet is None.

    Attributes:
        cell: what is run. expected: the failures that are known of it.
        config: what it is composed to. run_dir: its folder, once it lies there.
        exit: how its process ended. evidence: what it left.
        verdicts: what the checks say of that. record: what is kept of all this.
    """

    cell: Cell
    expected: tuple[Expected, ...] = ()
    config: Configuration | None = None
    run_dir: RunDir | None = None
    exit: Exit | None = None
    evidence: Evidence | None = None
    verdicts: tuple[Verdict, ...] = ()
    record: Record | None = None

    @property
    def claim(self) -> Claim:
        """What the cell claims: its spec, and what it was composed to."""
        assert self.config is not None, "a cell is composed before it claims anything"
        return Claim(self.cell.spec, self.config)


Step = Callable[[Passage, RunContext], Passage]


def carry(passage: Passage, context: RunContext, steps: Iterable[Step]) -> Passage:
    """Take a cell through the steps, one after the other; an error in one of them ends that.

    Raises:
        Unavailable: something that the cell needs isn't there.
        TunematrixError: of another kind: a step could not be taken.
        OSError: the evidence can't be kept.
    """
    for step in steps:
        passage = step(passage, context)
    return passage
