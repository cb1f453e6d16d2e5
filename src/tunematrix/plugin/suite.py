"""The options of one pytest run → its specs, its plan, its context and its store."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import pytest

from tunematrix.baselines.kept import read_baselines
from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.command.debugging import debug_specs
from tunematrix.command.specs import completed, refuse_unseeded
from tunematrix.command.trainers import read_trainers
from tunematrix.configuration.trainer import Trainer
from tunematrix.errors import BadInput
from tunematrix.fleet.address import certificates_for, parse_address
from tunematrix.fleet.driver import Fleet
from tunematrix.fleet.offer import identity_of
from tunematrix.fleet.travel import Terms
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.combining import combined_by
from tunematrix.matrix.elsewhere import owners, way_out
from tunematrix.matrix.plan import Plan, plan
from tunematrix.matrix.relations import Related
from tunematrix.matrix.requirements import importable
from tunematrix.matrix.seeds import under_seeds
from tunematrix.matrix.select import Selection, parse_selection
from tunematrix.paths import made
from tunematrix.plugin.arguments import Arguments
from tunematrix.plugin.begun import is_worker
from tunematrix.project import FOLDERS, Project, read_project
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record, backend_of
from tunematrix.results.store import Store
from tunematrix.run.sabotage import lacks_fault
from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec
from tunematrix.workflow.cells import known_failures
from tunematrix.workflow.context import RunContext


class Suite:
    """What one pytest run consists of, made from its options when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.arguments = Arguments(config)
        self.root = config.rootpath
        self.on_worker = is_worker(config)
        self.run_id: str = (
            vars(config)["workerinput"]["tunematrix_run_id"]
            if self.on_worker
            else f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        )
        # Whether real trainers may run.
        self.integration = True
        # How many nightly items this run leaves out, since nobody asked for them.
        self.left_out = 0
        # Whether all items have been reported, and pytest writes its summaries.
        self.is_ending = False
        # Whether somebody watches the run on a terminal, and whether it is being drawn there.
        self.is_watched = False
        self.is_drawn = False
        self._said = queue.SimpleQueue[str]()
        # The spec files that pytest has collected.
        self.read: set[Path] = set()

    @cached_property
    def project(self) -> Project:
        """The project that pytest runs in."""
        folders = {key: self.config.getini(key) for key in FOLDERS}
        return read_project(self.root, self.arguments.environment, folders)

    @cached_property
    def context(self) -> RunContext:
        """What all cells of this run share."""
        environment, groups = self.project.environment, self.project.groups
        if (fleet := self.fleet) is not None:
            groups = groups.known_at({one: fleet.installed(one) for one in environment.backends})
        return RunContext(
            environment=environment,
            groups=groups,
            run_id=self.run_id,
            root=self.root,
            isolation=self.config.getoption("tunematrix_isolation"),
            faults=self.faults,
            keep_output=self.config.getoption("tunematrix_keep_output"),
            say=self.say,
            fleet=fleet,
            watch=self.config.getoption("tunematrix_watch"),
            trainers=self.trainers,
            baselines=read_baselines(
                self.project.groups.roots,
                self.project.environment.name,
                strict=self.config.getoption("tunematrix_strict_baseline"),
            ),
        )

    @cached_property
    def fleet(self) -> Fleet | None:
        """The machines that cells run on, where --fleet names their scheduler; connected.

        Raises:
            BadInput: environments are joined without one, or what answers isn't of this fleet.
            MachineProblem: no scheduler answers, or an environment has no worker.
        """
        environment = self.project.environment
        if not (address := self.config.getoption("tunematrix_fleet")):
            if environment.parts:
                names = ",".join(one.name for one in environment.parts)
                text = f"-e {names}: the cells of several environments run on a fleet"
                raise BadInput(f"{text}; name its scheduler with --fleet, or one environment")
            return None
        terms = Terms(
            run_id=self.run_id,
            faults=self.faults,
            watch=self.config.getoption("tunematrix_watch"),
            keep_output=self.config.getoption("tunematrix_keep_output"),
            strict=self.config.getoption("tunematrix_strict_baseline"),
        )
        folder = self.config.getoption("tunematrix_certificates")
        where = parse_address(address)
        known = certificates_for(where, Path(folder) if folder else None, self.root)
        fleet = Fleet(where, known, identity_of(self.project), environment, terms, self.say)
        fleet.open()
        return fleet

    def known_failures(self, point: Cell | Related) -> tuple[Expected, ...]:
        """Return the failures that are known of a cell or a relation where it runs."""
        here = self.context.known_here
        if self.fleet is None:
            return known_failures(point, here)
        return known_failures(point, here, self.fleet.installed(backend_of(point.axes)))

    @cached_property
    def trainers(self) -> Mapping[str, Trainer]:
        """The trainers of the project, by name."""
        return read_trainers(self.root)

    @cached_property
    def selection(self) -> Selection:
        """Which cells --axis asks for."""
        return parse_selection(self.config.getoption("tunematrix_axis"), self.context.groups)

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """Every spec that the command line reaches, as its options have it combined."""
        specs = completed(load_specs(self.arguments.spec_paths), self.trainers, self.root)
        refuse_unknown_checks(self.context.groups, specs)
        if self.config.getoption("tunematrix_debug_mode"):
            specs = debug_specs(specs, self.trainers).specs
        return combined_by(specs, self.config.getoption("tunematrix_strategy"))

    @property
    def way_out(self) -> str:
        """What to do where no cell was selected; empty where nothing that was asked for says."""
        here, every = self.project.environment, self.project.environments.values()
        has_some = self.plan.cells or self.plan.exclusions
        groups = self.context.groups
        owning = () if has_some else owners(self.specs, groups, every, here, self.selection)
        return way_out(owning, self.arguments.filters)

    @cached_property
    def plan(self) -> Plan:
        """The plan of every spec that the command line reaches."""
        context = self.context
        whole = plan(self.specs, context.groups, context.environment, self.selection)
        if self.seeds is None:
            return whole
        refuse_unseeded(whole.cells, self.trainers)
        return under_seeds(whole, self.seeds)

    @cached_property
    def plans(self) -> Mapping[Path | None, Plan]:
        """The plan of each spec file; taken apart once, since there are many files and cells."""
        plans = self.plan.by_file()
        return {path.resolve() if path else None: plan for path, plan in plans.items()}

    @cached_property
    def subjects(self) -> Mapping[str, Cell | Related]:
        """All that may be an item, by its id; nothing where the command line reaches no spec."""
        if not self.arguments.spec_paths:
            return {}
        plan = self.plan
        found: dict[str, Cell | Related] = {}
        for one in plan.relations:
            planted = [one.with_planted(what) for what in one.relation.planted]
            found |= {arm.cell.id: arm.cell for way in (one, *planted) for arm in way.arms}
            found |= {related.id: related for related in (one, *planted)}
        cells = [*plan.cells, *(exclusion.cell for exclusion in plan.exclusions)]
        return found | {cell.id: cell for cell in cells}

    @property
    def seeds(self) -> int | None:
        """Under how many seeds each cell runs; None where it runs once, as its spec says."""
        seeds: int | None = self.config.getoption("tunematrix_seeds")
        return seeds

    @property
    def faults(self) -> tuple[str, ...]:
        """The sabotages asked for; found, but left to the worker to import.

        Raises:
            BadInput: a name leads to no module, or the module has no such fault.
        """
        names: list[str] = self.config.getoption("tunematrix_faults")
        for name in names:
            module, _, function = name.rpartition(":")
            is_file = module.endswith(".py")
            if not (function and (Path(module).is_file() if is_file else importable(module))):
                text = f"--fault {name}: there is no module {module or name}"
                advice = "write MODULE:NAME of one that Python finds from here, or FILE.py:NAME"
                raise BadInput(f"{text}; {advice}")
            if advice := lacks_fault(module, function):
                raise BadInput(f"--fault {name}: {advice}")
        return tuple(names)

    @property
    def has_gpu(self) -> bool:
        """Whether a backend of this environment computes on a GPU."""
        context = self.context
        return any(context.groups.backend(name).gpu for name in context.environment.backends)

    def is_failure(self, record: Record) -> bool:
        """Whether a record fails the run, also by being unavailable where that is required."""
        names = {record.environment, self.context.environment.name}
        is_required = not names.isdisjoint(self.config.getoption("tunematrix_require"))
        return record.is_bad or (record.outcome == "unavailable" and is_required)

    @property
    def store(self) -> Store:
        """Where records go."""
        return Store(self.context.folder / "results.jsonl")

    @property
    def locked(self) -> Path | None:
        """Where the locked environment keeps its records, if this is a variant of it."""
        environment = self.context.environment
        if environment.variant == "locked":
            return None
        return self.context.folder.with_name(environment.base)

    def make_folder(self) -> None:
        """Make the folder that all of this run is written to.

        Raises:
            MachineProblem: it can't be made.
        """
        made(self.context.folder)

    def close(self) -> None:
        """End whatever was started for cells."""
        if "context" in vars(self):
            self.context.close(prune=not self.on_worker)

    def say(self, text: str) -> None:
        """Show one line of progress between the items; from another thread, later."""
        if threading.current_thread() is not threading.main_thread():
            self._said.put(text)
            return
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or self.on_worker:
            return
        # Said while a cell is under way, when pytest holds back what is printed.
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            reporter.ensure_newline()
            if self.config.get_verbosity() > 0:
                reporter.write(f"  {text}", flush=True, cyan=True)
                # pytest ends the line before it begins an item's, and would leave one empty.
                reporter.currentfspath = _LINE_BEGUN
            else:
                reporter.write_line(f"  {text}", cyan=True)
                reporter.flush()  # or a file would have it much later

    def say_what_waits(self) -> None:
        """Show what other threads had to say."""
        while not self._said.empty():
            self.say(self._said.get())


KEY = pytest.StashKey[Suite]()
_LINE_BEGUN = -2
"""How pytest's reporter remembers that the cursor stands behind some text."""
