"""One pytest run's view of the house: its options → specs, plan, workshop and store."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tunematrix.environments.table import Environment, find_environment, read_environments
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import Plan, plan
from tunematrix.matrix.requirements import importable
from tunematrix.matrix.seeds import under_seeds
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import adhoc_specs, made, project_root, pyproject, shipped_configs, state
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.spec.loader import load_specs
from tunematrix.workflow.workshop import Workshop

FOLDERS = ("tunematrix_specs", "tunematrix_configs")
"""pytest's settings that name folders: with specs, and with config groups of one's own."""


@dataclass(frozen=True)
class Setting:
    """What is there before any option is read: where the project is, and what it configures.

    Attributes:
        root: the project; environment: the one that was named; groups: all config groups.
        environments: all of them, variants included, by name.
        spec_folders: where the project keeps its specs; the shipped suite if it names none.
    """

    root: Path
    environment: Environment
    environments: Mapping[str, Environment]
    groups: Groups
    spec_folders: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where this environment's records and runs lie."""
        return state(self.root) / self.environment.name

    @property
    def described(self) -> Mapping[str, str]:
        """The locked environments, each with its description."""
        locked = [one for one in self.environments.values() if one.variant == "locked"]
        return {one.name: one.description for one in locked}


def read_setting(
    start: Path, environment: str, folders: Mapping[str, Sequence[str]] | None = None
) -> Setting:
    """Read the project at or above `start`.

    Args:
        start: a folder in it.
        environment: name of one of its environments.
        folders: what pytest's settings `FOLDERS` say; None to read them in pyproject.toml.

    Raises:
        BadInput: the table, the configs or the environment's name are wrong.
    """
    root = project_root(start)
    told = pytest_settings(root) if folders is None else folders
    roots = config_roots(root, told)
    named = [(root / name).resolve() for name in told.get(FOLDERS[0], ())]
    environments = read_environments(root, roots)
    return Setting(
        root=root,
        environment=find_environment(environment, environments),
        environments=environments,
        groups=read_groups(roots),
        spec_folders=tuple(named or [shipped_configs() / "specs"]),
    )


def config_roots(root: Path, told: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """Return the config folders that pytest's settings name in a project, the shipped one first."""
    shipped = shipped_configs()
    own = [(root / name).resolve() for name in told.get(FOLDERS[1], ())]
    return (shipped, *(folder for folder in own if folder != shipped.resolve()))


def pytest_settings(root: Path) -> dict[str, list[str]]:
    """Return what pyproject.toml tells pytest, which checks it, in either of its two forms."""
    table: dict[str, Any] = pyproject(root).get("tool", {}).get("pytest", {})
    settings: dict[str, list[str]] = table.get("ini_options", table)
    return settings


class Harness:
    """One pytest run's view of the house, made from its options when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.root = config.rootpath
        workerinput = getattr(config, "workerinput", None)
        self.on_worker = workerinput is not None
        self.run_id: str = (
            workerinput["tunematrix_run_id"]
            if workerinput is not None
            else f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        )

    @cached_property
    def setting(self) -> Setting:
        """The project that pytest runs in."""
        folders = {key: self.config.getini(key) for key in FOLDERS}
        return read_setting(self.root, self.config.getoption("tunematrix_environment"), folders)

    @cached_property
    def own_folders(self) -> tuple[Path, ...]:
        """The spec folders that the project configures: a path above one reaches all of it."""
        named: list[str] = self.config.getini("tunematrix_specs")
        return tuple((self.root / name).resolve() for name in named)

    @cached_property
    def spec_folders(self) -> tuple[Path, ...]:
        """Folders whose YAML files are specs; those of ad hoc cells and the shipped ones, too."""
        return (*self.own_folders, shipped_configs() / "specs", adhoc_specs(self.root))

    @cached_property
    def workshop(self) -> Workshop:
        """What all cells of this run share."""
        return Workshop(
            environment=self.setting.environment,
            groups=self.setting.groups,
            run_id=self.run_id,
            root=self.root,
            isolation=self.config.getoption("tunematrix_isolation"),
            faults=self.faults,
            keep_output=self.config.getoption("tunematrix_keep_output"),
            say=self.say,
        )

    @cached_property
    def plan(self) -> Plan:
        """The plan of every spec that the command line reaches."""
        workshop = self.workshop
        expressions = self.config.getoption("tunematrix_axis")
        selection = parse_selection(expressions, workshop.groups)
        specs = load_specs(self.spec_paths)
        whole = plan(specs, workshop.groups, workshop.environment, selection)
        return whole if self.seeds is None else under_seeds(whole, self.seeds)

    @property
    def seeds(self) -> int | None:
        """Under how many seeds each cell runs; None where it runs once, as its spec says."""
        seeds: int | None = self.config.getoption("tunematrix_seeds")
        return seeds

    @property
    def faults(self) -> tuple[str, ...]:
        """The sabotages asked for; found, but left to the worker to import.

        Raises:
            BadInput: a name leads to no module.
        """
        names: list[str] = self.config.getoption("tunematrix_faults")
        for name in names:
            module, _, function = name.rpartition(":")
            is_file = module.endswith(".py")
            if not (function and (Path(module).is_file() if is_file else importable(module))):
                text = f"--fault {name}: there is no module {module or name}"
                advice = "write MODULE:NAME of one that Python finds from here, or FILE.py:NAME"
                raise BadInput(f"{text}; {advice}")
        return tuple(names)

    @property
    def must_be_whole(self) -> bool:
        """Whether what is unavailable in this environment fails the run."""
        return self.workshop.environment.name in self.config.getoption("tunematrix_require")

    @property
    def store(self) -> Store:
        """Where records go."""
        return Store(self.workshop.folder / "results.jsonl")

    @property
    def locked(self) -> Path | None:
        """Where the locked environment keeps its records, if this is a variant of it."""
        environment = self.workshop.environment
        if environment.variant == "locked":
            return None
        return self.workshop.folder.with_name(environment.base)

    def asks_for(self, marker: str) -> bool:
        """Whether -m names a marker, of items that aren't there otherwise."""
        return re.search(rf"(?<!\bnot )\b{marker}\b", self.config.getoption("markexpr")) is not None

    @cached_property
    def argument_paths(self) -> tuple[Path, ...]:
        """The files and folders that the command line names, node ids cut off."""
        here = self.config.invocation_params.dir
        return tuple((here / text.partition("::")[0]).resolve() for text in self.config.args)

    @cached_property
    def spec_paths(self) -> tuple[Path, ...]:
        """The spec files and spec folders that the command line reaches."""
        paths = self.argument_paths
        folders = [f for path in paths for f in self.own_folders if f.is_relative_to(path)]
        below = [path for path in paths if self.is_spec(path) or self._is_below(path)]
        return tuple(dict.fromkeys([*folders, *below]))

    def is_spec(self, path: Path) -> bool:
        """Whether a path is a YAML file in a configured spec folder, or was named as a file."""
        if path.suffix not in (".yaml", ".yml"):
            return False
        return self._is_below(path.resolve()) or path.resolve() in self.argument_paths

    def make_folder(self) -> None:
        """Make the folder that all of this run is written to.

        Raises:
            MachineProblem: it can't be made.
        """
        made(self.workshop.folder)

    def close(self) -> None:
        """End whatever was started for cells."""
        if "workshop" in vars(self):
            self.workshop.close(prune=not self.on_worker)

    def _is_below(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.spec_folders)

    def say(self, text: str) -> None:
        """Show one line of progress between the items."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or self.on_worker:
            return
        # Said while a cell is under way, when pytest holds back what is printed.
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(f"  {text}", cyan=True)

    def again(self, record: Record, marker: str) -> str:
        """Return the one command that repeats an item, in the folder that pytest was started in.

        `marker` is what -m has to name for it to be there at all.
        """
        option = self.config.option
        told = {
            "--config-file": option.inifilename,
            "--rootdir": option.rootdir,
            "--isolation": None if (way := option.tunematrix_isolation) == "auto" else way,
        }
        options = [f"{flag}={value}" for flag, value in told.items() if value]
        options += [f"--fault={name}" for name in option.tunematrix_faults]
        options += [f"--seeds={seeds}"] if (seeds := option.tunematrix_seeds) else []
        options += ["-m", marker] if marker else []
        if session := os.environ.get("NOX_CURRENT_SESSION"):
            start = ["nox", "-s", session, "--", f"{record.spec}::{record.cell_id}"]
            return shlex.join([*start, *options])
        here = self.config.invocation_params.dir
        node = f"{os.path.relpath(self.root / record.spec, here)}::{record.cell_id}"
        start = [sys.executable, "-m", "pytest", node, f"--environment={record.environment}"]
        options += [f"--require={name}" for name in option.tunematrix_require]
        return shlex.join([*start, *options])


KEY = pytest.StashKey[Harness]()
