"""The step `serve`, run in this process under planted faults, and judged by its checks."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tunematrix.checks import serving as checks
from tunematrix.checks.command import completion_perplexity
from tunematrix.checks.registry import checks_of
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration.answers import ServeStep
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.errors import TunematrixError
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import Event
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run.local.process_tree import is_alive
from tunematrix.spec import Spec
from tunematrix.spec.matrix import Matrix
from tunematrix.stack.steps import serve
from tunematrix.stack.steps.job import StepJob

GROUPS = read_groups([shipped_configs()])
PROMPTS = ("Once upon a time", "One day Milo found", "Nobody in Arden had ever seen")

Fault = AbstractContextManager[None]


@dataclass(frozen=True)
class Ran:
    """A step that has run.

    Attributes:
        events: that it wrote. folder: it wrote to. error: that it ended with, if any.
    """

    events: tuple[Event, ...]
    folder: Path
    claim: Claim
    error: TunematrixError | None

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What the checks of served models say."""
        evidence = Evidence(Exit(0, None, False, (), 1.0, "spawn"), self.events, "", "", ())
        judged = (one(evidence, self.claim) for one in (*checks_of(checks), completion_perplexity))
        return {verdict.name: verdict for verdict in judged if verdict is not None}

    @property
    def failed(self) -> set[str]:
        """Names of those that failed."""
        return {name for name, verdict in self.verdicts.items() if verdict.outcome == "failed"}

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def run_in(folder: Path, *faults: Fault, dry_run: bool = False, **settings: Any) -> Ran:
    """Run the step in this process; what users would be told is returned."""
    cell = one_cell()
    plain = {"model": {"path": "toyworld://base"}, "prompts": PROMPTS[:1], "max_tokens": 12}
    given = ServeStep.model_validate({**plain, **settings})
    config = compose(cell, GROUPS, str(folder / "cache")).model_copy(
        update={"steps": PipelineSteps(serve=given)}
    )
    folder.mkdir(parents=True, exist_ok=True)
    error: TunematrixError | None = None
    before = family()
    with EventLog(folder / "events.jsonl") as log, ExitStack() as planted:
        for fault in faults:
            planted.enter_context(fault)
        job = StepJob("serve", config, log, folder, dry_run=dry_run)
        try:
            serve.run(given, job)
        except TunematrixError as raised:
            error = raised
    assert family() <= before
    return Ran(read_events(folder / "events.jsonl"), folder, Claim(cell.spec, config), error)


def one_cell() -> Cell:
    """Return a cell without a quantizer, on the CPU."""
    spec = Spec(test_id="served", recipe="sft", matrix=Matrix.of({"backend": ("cpu",)}))
    (cell,), _ = expand(spec, GROUPS, ["cpu"])
    return cell


def children() -> list[psutil.Process]:
    """Return what runs right below this process; it may have adopted zombies of other tests."""
    return [each for each in psutil.Process().children() if is_alive(each)]


def family() -> set[int]:
    """Return what runs below this process."""
    return {e.pid for e in psutil.Process().children(recursive=True) if is_alive(e)}
