"""What all cells of one run share: where things lie, the driver, and what was prepared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

from tunematrix.environments.table import Environment
from tunematrix.errors import MachineProblem, Unavailable
from tunematrix.evidence import Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.requirements import first_lack
from tunematrix.paths import shown, state
from tunematrix.run import worker
from tunematrix.run.driver import Driver

Isolation = Literal["auto", "forkserver", "spawn", "foreground"]

PREPARE_SECONDS = 900.0
RUNS_KEPT = 5
UNUSABLE = "Unusable"
"""The error with which a backend refuses its device."""


@dataclass
class Workshop:
    """What all cells of one run share.

    Attributes:
        environment: whose cells run; groups: the config groups.
        run_id: names the run; root: the project; folder: `.tunematrix/<environment>`.
        isolation: how cells are kept apart; faults: dotted names entered in every worker.
        keep_output: whether the output of passed cells is kept.
        say: takes one line of progress for the user.
    """

    environment: Environment
    groups: Groups
    run_id: str
    root: Path
    isolation: Isolation
    faults: tuple[str, ...]
    keep_output: bool
    say: Callable[[str], None]
    _driver: Driver | None = None
    _prepared: dict[str, MachineProblem | None] = field(default_factory=dict)
    _composed: dict[str, Future[dict[str, Any]]] = field(default_factory=dict)
    _composer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def folder(self) -> Path:
        """Where this environment's records and runs lie."""
        return state(self.root) / self.environment.name

    @property
    def run_folder(self) -> Path:
        """Where the run directories of this run lie."""
        return self.folder / "runs" / self.run_id

    @property
    def cache(self) -> Path:
        """Where generated checkpoints and compiled kernels are kept between runs."""
        return state(self.root) / "cache"

    def compose_ahead(self, cell: Cell) -> Future[dict[str, Any]]:
        """Compose a cell's configuration while the one before it runs."""
        if cell.id not in self._composed:
            future = self._composer.submit(self._compose, cell)
            self._composed[cell.id] = future
        return self._composed[cell.id]

    def run(self, run_dir: RunDir, timeout: float) -> Exit:
        """Run a cell in a process of its own, or in this one where breakpoints must work."""
        if self.isolation == "foreground":
            return worker.run_foreground(run_dir)
        return self._started_driver().run(run_dir, timeout)

    def get_ready(self, cell: Cell) -> None:
        """Do ahead what a cell waits for, so that what is said of it stands above its line.

        What goes wrong is left to the cell, which has a record to tell it in.
        """
        if self.isolation == "foreground" or self.unavailable(cell) is not None:
            return
        with suppress(Exception):  # whatever it is, the cell meets it again
            self.prepare(self.compose_ahead(cell).result())

    def unavailable(self, cell: Cell) -> str | None:
        """Say which device or library is lacking for the cell, without importing any."""
        backend = self.groups.axes["backend"][cell.axes["backend"]]
        if cell.spec.gpu_requirement and not backend.data.get("gpu"):
            needs = f"{cell.spec.gpu_requirement} GPU (gpu_requirement)"
            return f"the spec needs {needs}, and backend {backend.name} computes without one"
        lack = first_lack(cell.axes, self.groups)
        return None if lack is None else str(lack)

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Do once, before any clock starts, what an option needs done (a compilation).

        Raises:
            Unavailable: a backend's device can't be used; the text says why.
            MachineProblem: it failed, now or before; the text names its log.
        """
        if self.isolation != "foreground":
            self._started_driver()
        for axis, section in config.items():
            wanted = section.get("prepare") if isinstance(section, Mapping) else None
            if wanted is None:
                continue
            key = repr((wanted["call"], arguments := wanted.get("arguments", {})))
            if key not in self._prepared:
                self.say(f"{axis} {section['name']}: {wanted['note']}")
                self._prepared[key] = self._call(wanted["call"], section["name"], arguments)
            if problem := self._prepared[key]:
                raise problem

    def _started_driver(self) -> Driver:
        """Return the driver; at first use it is started, for all backends of the environment."""
        assert self.isolation != "foreground"
        if self._driver is None:
            options = self.groups.axes["backend"]
            backends = [options[name].declared for name in self.environment.backends]
            preload = dict.fromkeys(module for one in backends for module in one.preload)
            canaries = [one.canary for one in backends if one.canary]
            self._driver = Driver(tuple(preload), self.isolation, canaries, report=self.say)
            self._driver.start()
        return self._driver

    def _call(self, function: str, name: str, more: Mapping[str, object]) -> MachineProblem | None:
        """Call a preparation where cells run; return what went wrong."""
        arguments = {"cache_dir": str(self.cache), **more}
        if self.isolation == "foreground":
            try:
                resolve_name(function)(**arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the cell's record tells it
                return _as_problem(f"{type(error).__name__}: {error}", f"preparing {name} failed")
            return None
        log = self.run_folder / f"prepare-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        end = self._started_driver().call(function, arguments, PREPARE_SECONDS, log)
        if end.code == 0 and end.problem is None:
            return None
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        return _as_problem("".join(last), f"preparing {name} failed (all of it in {shown(log)})")

    def close(self, *, prune: bool) -> None:
        """End the driver; with `prune`, remove the folders of older runs, newest few kept."""
        self._composer.shutdown(wait=False, cancel_futures=True)
        if self._driver is not None:
            self._driver.close()
        runs = sorted((self.folder / "runs").glob("*"), key=lambda path: path.name)
        for old in runs[:-RUNS_KEPT] if prune else ():
            shutil.rmtree(old, ignore_errors=True)

    def _compose(self, cell: Cell) -> dict[str, Any]:
        config: dict[str, Any] = dict(compose(cell, self.groups.roots))
        config["cache_dir"] = str(self.cache)
        return config


def _as_problem(last_line: str, what: str) -> MachineProblem:
    """Tell a device that says why it can't be used from a preparation that broke."""
    _, unusable, reason = last_line.partition(f"{UNUSABLE}: ")
    return Unavailable(reason) if unusable else MachineProblem(f"{what}: {last_line}".rstrip(": "))
