"""Cells → evidence: what doctor tries runs where all cells run, in processes of their own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunematrix.checks.verdict import Claim
from tunematrix.errors import MachineProblem
from tunematrix.evidence import Evidence, collect
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.matrix.cells import Cell, Exclusion, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.paths import shown
from tunematrix.run.driver import Driver
from tunematrix.spec.model import Spec

DEVICE = "tunematrix.stack.trial.device"
QUANTIZER = "tunematrix.stack.trial.quantizer"

PREPARE_SECONDS = 900.0
SMALL = {"train.max_steps": 1, "meters.held_out_rows": 8}
RUNS_KEPT = 3


@dataclass(frozen=True)
class Trial:
    """What is left of one trial.

    Attributes:
        evidence: what it left behind. claim: what it was to be. folder: where the evidence lies.
    """

    evidence: Evidence
    claim: Claim
    folder: Path

    def forget(self) -> None:
        """Remove the folder: what worked leaves nothing to look into."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Laboratory:
    """Where trials run.

    Attributes:
        root: the project; groups: the config groups.
        run_id: names the folder that their evidence goes to.
        timeout: seconds that each may take, compiling before it not included.
        say: takes one line of progress.
    """

    root: Path
    groups: Groups
    timeout: int
    say: Callable[[str], None]
    run_id: str = field(default_factory=lambda: time.strftime("%Y%m%d-%H%M%S-") + str(os.getpid()))

    @property
    def run(self) -> Path:
        """The folder of this run's evidence; made when there is some."""
        return self.root / ".tunematrix" / "doctor" / self.run_id

    def needs(self, backend: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the modules to preload and the canaries of a backend."""
        declared = self.groups.axes["backend"][backend].declared
        return declared.preload, (declared.canary,) if declared.canary else ()

    def try_device(self, driver: Driver, backend: str) -> Trial:
        """Claim a backend's device in a process of its own."""
        self.say(f"{backend}: trying its device")
        spec = Spec(test_id="doctor", recipe="sft", timeout=self.timeout)
        axes = {**self.groups.defaults, "backend": backend}
        cell = Cell(f"doctor[{backend}]", spec, axes, (f"backend={backend}",))
        return self._run(driver, cell, DEVICE, self._compose(cell))

    def try_quantizer(self, driver: Driver, cell: Cell) -> Trial:
        """Load, quantize and train for one step, after what has to be compiled is.

        Raises:
            MachineProblem: that failed; the text has its last line and names its log.
        """
        config = self._compose(cell)
        quantizer = config["quantizer"]
        if prepared := quantizer.get("prepare"):
            self.say(f"{quantizer['name']}: {prepared['note']}")
            self._prepare(driver, quantizer["name"], prepared["call"])
        self.say(f"{quantizer['name']} on {config['backend']['name']}: trying it")
        return self._run(driver, cell, QUANTIZER, config)

    def _prepare(self, driver: Driver, name: str, function: str) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        log = self.run / f"prepare-{name}.log"
        end = driver.call(function, {"cache_dir": str(self._cache)}, PREPARE_SECONDS, log)
        if end.code != 0 or end.problem is not None:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise MachineProblem(": ".join([f"compiling failed ({shown(log)})", *last]))
        log.unlink()

    def _run(self, driver: Driver, cell: Cell, recipe: str, config: dict[str, Any]) -> Trial:
        config["recipe"]["implementation"] = {"_target_": recipe, "_partial_": True}
        run_dir = RunDir.create(self.run, cell.id)
        run_dir.write_cell(CellFile(cell.id, config, str(run_dir.output)))
        end = driver.run(run_dir, self.timeout)
        return Trial(collect(run_dir, end), Claim(cell.spec, config), run_dir.path)

    def _compose(self, cell: Cell) -> dict[str, Any]:
        config: dict[str, Any] = dict(compose(cell, self.groups.roots))
        config["cache_dir"] = str(self._cache)
        return config

    def tidy(self) -> None:
        """Remove what is left of older runs, and of this one if all that it tried has worked."""
        runs = sorted(self.run.parent.glob("*"))
        for folder in runs[:-RUNS_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it holds evidence, or was never made
            self.run.rmdir()

    @property
    def _cache(self) -> Path:
        """Where what is compiled once is kept, for runs of the suite as well."""
        return self.root / ".tunematrix" / "cache"


def pairs(
    groups: Groups, backend: str, timeout: int
) -> tuple[tuple[Cell, ...], tuple[Exclusion, ...]]:
    """Return a backend's quantizers as cells, and those that are declared unsupported on it."""
    quantizers = tuple(groups.axes["quantizer"])
    spec = Spec(
        test_id="doctor",
        recipe="sft",
        matrix={"quantizer": quantizers},
        overrides=SMALL,
        timeout=timeout,
    )
    return expand(spec, groups, [backend])
