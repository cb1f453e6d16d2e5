"""A trainer's command as a cell, and the same command by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tunematrix.command.specs import completed
from tunematrix.configuration.trainer import Trainer
from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import Groups
from tunematrix.spec.model import Spec
from tunematrix.workflow.cells import get_ready, run_cell
from tunematrix.workflow.context import RunContext

_TRAINER = """
import json, pathlib, sys
lines = [{"step": step, "loss": 4 / step, "learning_rate": 0.1} for step in range(1, 9)]
pathlib.Path(sys.argv[1], "log.jsonl").write_text("\\n".join(map(json.dumps, lines)))
"""


def ways(root: Path, groups: Groups) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return two functions that take the seconds of a command: as a cell, and by itself.

    Args:
        root: an empty folder, which becomes a repository with a trainer in it.
        groups: the config groups.
    """
    (root / "train.py").write_text(_TRAINER)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    trainers = {"bench": Trainer(command=("{python}", "train.py", "{output_dir}"))}
    data = {
        "test_id": "bench",
        "project_dir": ".",
        "gpu_requirement": 0,
        "expected_files": ["log.jsonl"],
    }
    (spec,) = completed([Spec.model_validate(data)], trainers, root)
    (cell,), _ = expand(spec, groups, ["cpu"])
    context = RunContext(
        environment=Environment("bench", "", ("cpu",)),
        groups=groups,
        run_id="bench",
        root=root,
        isolation="auto",
        faults=(),
        keep_output=False,
        say=print,
        trainers=trainers,
    )

    def as_a_cell() -> float:
        context.run_id = f"bench{time.monotonic_ns()}"
        started = time.perf_counter()
        get_ready(cell, context)
        record = run_cell(cell, context, ())
        seconds = time.perf_counter() - started
        assert record.outcome == "passed", record.reason
        return seconds

    def by_itself() -> float:
        started = time.perf_counter()
        command = [sys.executable, "train.py", os.fspath(root)]
        subprocess.run(command, check=True, cwd=root, stdin=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        (root / "log.jsonl").unlink()
        return seconds

    return as_a_cell, by_itself
