"""What all cells of one run share: where things lie, the executor, and what was prepared."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tunematrix.baselines.kept import FOLDER, Baselines
from tunematrix.command.devices import lack_of_gpus
from tunematrix.command.executor import Commands
from tunematrix.command.specs import settings_of
from tunematrix.configuration import Configuration
from tunematrix.configuration.releases import Installed, ReleaseTable
from tunematrix.configuration.trainer import Trainer
from tunematrix.configuration.watch import Watch
from tunematrix.environments.table import Environment
from tunematrix.errors import MachineProblem, Obstacle, Unavailable
from tunematrix.evidence import Evidence, collect
from tunematrix.evidence.events import Raised, Refused
from tunematrix.evidence.run_dir import RunDir, folder_name
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.requirements import first_lack
from tunematrix.paths import shown, state
from tunematrix.results.code_state import code_state
from tunematrix.results.record import Record
from tunematrix.run.executor import Executor, Poll
from tunematrix.run.local.executors import Choice
from tunematrix.workflow.here import executor_here
from tunematrix.workflow.holding import hold, remove_unless_held

PREPARE_SECONDS = 900.0
_FRAMEWORK = "torch"  # whose hooks the probe uses
RUNS_KEPT = 5


class Carrier(Protocol):
    """What has whole cells run on other machines, which decide there what each of them lacks."""

    def carry(self, cell: Cell, context: RunContext) -> Record:
        """Have a cell run, and return its record; wait for that.

        What went wrong on the way is a record, too. Its evidence lies in the cell's folder then,
        as if it had run here, where something failed or a relation compares it.
        """

    def installed(self, backend: str) -> Installed:
        """Return what tells the version of a distribution where a backend's cells run."""

    def interrupt(self) -> None:
        """End all that runs for this run."""

    def close(self) -> None:
        """Leave the fleet."""


@dataclass
class RunContext:
    """What all cells of one run share.

    Attributes:
        environment: whose cells run; groups: the config groups.
        run_id: names the run; root: the project; folder: `.tunematrix/<environment>`.
        isolation: how cells are kept apart on this machine.
        faults: dotted names entered in every worker.
        keep_output: whether the output of passed cells is kept.
        say: takes one line of progress for the user.
        fleet: what carries cells to other machines; None where they run on this one.
        here: where cells run on this machine, if that was opened before; left to who opened it.
        own_folder: where records and runs lie; the environment's own in the project if None.
        poll: called while a cell runs, about ten times a second; may raise KeyboardInterrupt.
        trainers: those of the project, by name.
        watch: whether cells that train with PyTorch are watched from the inside, too.
        baselines: what cells that pass are held against.
    """

    environment: Environment
    groups: Groups
    run_id: str
    root: Path
    isolation: Choice
    faults: tuple[str, ...]
    keep_output: bool
    say: Callable[[str], None]
    fleet: Carrier | None = None
    here: Executor | None = None
    own_folder: Path | None = None
    poll: Poll | None = None
    watch: bool = False
    trainers: Mapping[str, Trainer] = field(default_factory=dict)
    baselines: Baselines = field(default_factory=Baselines)
    _prepared: dict[str, MachineProblem | None] = field(default_factory=dict, init=False)
    _here: Executor | None = field(default=None, init=False)
    _commands: Executor = field(default_factory=Commands, init=False)
    _claim: int | None = field(default=None, init=False)
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False)
    # One of its own: a preparation may take minutes, and Ctrl-C needs the executor meanwhile.
    _preparing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        """Keep secrets out of what is said."""
        say = self.say
        self.say = lambda text: say(masked(text, secrets_in(os.environ)))

    @property
    def executor(self) -> Executor:
        """Where cells run on this machine; nothing is started before the first one."""
        if self.here is not None:
            return self.here
        with self._opening:
            if self._here is None:
                self._here = executor_here(self.environment, self.groups, self.isolation, self.say)
            return self._here

    def executor_of(self, cell: Cell) -> Executor:
        """Return where a cell runs: a command needs none of the libraries that others share."""
        return self._commands if self.runs_command(cell) else self.executor

    def runs_command(self, cell: Cell) -> bool:
        """Whether a cell is the command of a trainer."""
        recipe = cell.axes.get("recipe")
        return recipe is not None and self.groups.recipe(recipe).runs_command

    def interrupt(self) -> None:
        """End all that other threads run; each of them gets a KeyboardInterrupt."""
        if self.fleet is not None:
            self.fleet.interrupt()
        self._commands.interrupt()
        if self.here is not None or self._here is not None:
            self.executor.interrupt()

    @property
    def folder(self) -> Path:
        """Where this environment's records and runs lie."""
        return self.own_folder or state(self.root) / self.environment.name

    @property
    def run_folder(self) -> Path:
        """Where the run directories of this run lie."""
        return self.folder / "runs" / self.run_id

    @property
    def _references(self) -> Path:
        return self.run_folder / ".references"

    @property
    def cache(self) -> Path:
        """Where generated checkpoints and compiled kernels are kept between runs."""
        return state(self.root) / "cache"

    @cached_property
    def code(self) -> Mapping[str, str]:
        """Which code the cells are of, as Git knows it; see `code_state`."""
        recorded = [root / FOLDER for root in self.groups.roots]
        return code_state(self.root, [state(self.root), *recorded])

    @property
    def known_here(self) -> ReleaseTable:
        """What is known of the releases that cells run with."""
        return self.groups.known_here

    def run_dir(self, cell_id: str) -> RunDir:
        """Return where a cell of this run runs, or has run."""
        return RunDir(self.run_folder / folder_name(cell_id))

    def compose(self, cell: Cell) -> Configuration:
        """Compose a cell's configuration; folders lie relative to the one that it will run in."""
        own = self.run_dir(cell.id).path
        config = compose(cell, self.groups, self._cache_from(own))
        if config.recipe.runs_command:
            return settings_of(cell, config, self.trainers, self.root)
        references = os.path.relpath(self._references, own)
        update: dict[str, object] = {"references": references, "steps": cell.spec.pipeline}
        trains = config.recipe.trains and _FRAMEWORK in config.backend.requires
        # The probe keeps parts of gradients, which would be taken for the trainer's.
        if self.watch and trains and not config.meters.allocator:
            update["watch"] = Watch()
        return config.model_copy(update=update)

    def obstacle(self, cell: Cell) -> Obstacle | None:
        """Return which library a cell lacks where it would run, or that it wants a GPU; else None.

        How many GPUs a command needs, its configuration says: see `shortage`.
        """
        backend = self.groups.backend(cell.axes["backend"])
        if (wanted := cell.spec.gpu_requirement) and not backend.gpu:
            need = f"{wanted} GPU (gpu_requirement)"
            found = f"the spec needs {need}, and backend {backend.name} computes without one"
            return Obstacle(need, found, "run it in an environment with a GPU: nox -l")
        if self.runs_command(cell):
            return None
        lack = first_lack(cell.axes, self.groups, self.executor.missing)
        return None if lack is None else lack.obstacle

    def shortage(self, cell: Cell, config: Configuration) -> Obstacle | None:
        """Return how a command lacks the GPUs that it needs; None if they are there."""
        if not config.recipe.runs_command:
            return None
        wanted = max(cell.spec.gpu_requirement, config.launcher.processes)
        return lack_of_gpus(config.backend, wanted)

    def prepare(self, config: Configuration) -> None:
        """Do once, before any clock starts, what an option needs done (a compilation).

        Raises:
            Unavailable: a backend's device can't be used; its obstacle says why.
            MachineProblem: it failed, now or before; the text names its log.
        """
        if config.recipe.runs_command:
            return  # in processes that we import nothing into
        self.executor.start()
        for axis, option in config.options().items():
            wanted = option.prepare
            if wanted is None:
                continue
            key = repr((wanted.call, wanted.arguments))
            with self._preparing:
                if key not in self._prepared:
                    self.say(f"{axis} {option.name}: {wanted.note}")
                    self._prepared[key] = self._call(wanted.call, option.name, wanted.arguments)
            if problem := self._prepared[key]:
                raise problem

    def claim_folder(self) -> None:
        """Make the folder of this run, and keep others from removing it while the run lasts."""
        with self._opening:
            if self._claim is None:
                _ = self.code  # as it is before anything runs
                self.run_folder.mkdir(parents=True, exist_ok=True)
                # Several processes may share a run.
                self._claim = hold(self.run_folder, shared=True)

    def close(self, *, prune: bool) -> None:
        """End what was started; with `prune`, remove older runs that have ended, newest kept.

        An executor that was given is left to whoever gave it.
        """
        if self.fleet is not None:
            self.fleet.close()
        if self._here is not None:
            self._here.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
        if not prune:
            return
        shutil.rmtree(self._references, ignore_errors=True)
        with suppress(OSError):  # it holds evidence, or was never made
            self.run_folder.rmdir()
        runs = sorted((self.folder / "runs").glob("*"), key=lambda path: path.name)
        for old in runs[:-RUNS_KEPT]:
            remove_unless_held(old)

    def _call(self, function: str, name: str, more: Mapping[str, object]) -> MachineProblem | None:
        """Call a preparation where cells run; return what went wrong."""
        self.claim_folder()
        # Several processes may share a run, and each prepares for itself.
        run_dir = RunDir.create(self.run_folder, f"prepare-{name}-{secrets.token_hex(4)}")
        arguments = {"cache_dir": self._cache_from(run_dir.path), **more}
        end = self.executor.call(function, arguments, PREPARE_SECONDS, run_dir)
        problem = _problem(collect(run_dir, end), name, run_dir)
        if problem is None:
            shutil.rmtree(run_dir.path, ignore_errors=True)
        return problem

    def _cache_from(self, folder: Path) -> str:
        # Resolved, since a link on the way would lead up another way than it came down.
        return os.path.relpath(self.cache.resolve(), folder.resolve())


def _problem(evidence: Evidence, name: str, run_dir: RunDir) -> MachineProblem | None:
    """Tell a device that says why it can't be used from a preparation that broke."""
    end, raised = evidence.exit, evidence.one(Raised)
    if end.code == 0 and end.problem is None:
        return None
    if refused := evidence.one(Refused):
        return Unavailable(refused.obstacle)
    logs = f" (all of it in {shown(run_dir.stderr)})" if run_dir.stderr.exists() else ""
    if raised is not None:
        how = f"{raised.exception[0]}: {raised.message}"
    elif end.timed_out:
        how = f"it took longer than {PREPARE_SECONDS:.0f} s"
    else:
        last = "".join(evidence.stderr.splitlines()[-1:])
        how = end.problem or last or f"it ended with {end.signal or end.code}"
    return MachineProblem(f"preparing {name} failed{logs}: {how}")
