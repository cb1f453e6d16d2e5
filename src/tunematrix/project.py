"""Where the project is and what it configures: pyproject.toml and config folders → Project."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunematrix.environments.table import Environment, find_environment, read_environments
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plugins import plugin_folders
from tunematrix.paths import project_root, pytest_settings, shipped_configs, state

FOLDERS = ("tunematrix_specs", "tunematrix_configs")
"""pytest's settings that name folders: with specs, and with config groups of one's own."""

SHIPPED = "shipped"
"""What `tunematrix_specs` calls the suite that comes with tunematrix."""


@dataclass(frozen=True)
class Project:
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
        return {
            name: environment.description
            for name, environment in self.environments.items()
            if environment.variant == "locked"
        }


def read_project(
    start: Path, environment: str | None, folders: Mapping[str, Sequence[str]] | None = None
) -> Project:
    """Read the project at or above `start`.

    Args:
        start: a folder in it.
        environment: name of one of its environments; None: cpu, or the only one.
        folders: what pytest's settings `FOLDERS` say; None to read them in pyproject.toml.

    Raises:
        BadInput: the table, the configs or the environment's name are wrong.
    """
    root = project_root(start)
    settings = pytest_settings(root) if folders is None else folders
    groups, environments = read_configs(root, settings)
    return Project(
        root=root,
        environment=find_environment(environment, environments),
        environments=environments,
        groups=groups,
        spec_folders=spec_folders(root, settings.get(FOLDERS[0], ())),
    )


def spec_folders(root: Path, named: Sequence[str]) -> tuple[Path, ...]:
    """Return the spec folders that a project names, in which `SHIPPED` is the suite shipped.

    A project that names none has that suite. A folder of one's own that is called so is ./shipped.
    """
    suite = shipped_configs() / "specs"
    folders = [suite if name == SHIPPED else (root / name).resolve() for name in named]
    return tuple(folders or [suite])


def spec_name(spec: Path, root: Path) -> str:
    """Return how a spec file is called in a project: its path, or shipped/NAME.yaml.

    So a shipped spec has the same name in every project and virtualenv. In a checkout of tunematrix
    it is a file like any other.
    """
    suite = shipped_configs() / "specs"
    if spec.is_relative_to(suite) and suite != root / "configs" / "specs":
        return f"{SHIPPED}/{spec.relative_to(suite).as_posix()}"
    return os.path.relpath(spec, root)


def spec_place(name: str) -> str:
    """Return where a spec lies that was named on the command line, a node id behind it or not."""
    path, colons, cell = name.partition("::")
    if not path.startswith(f"{SHIPPED}/") or Path(path).exists():
        return name
    return f"{shipped_configs() / 'specs' / path.removeprefix(f'{SHIPPED}/')}{colons}{cell}"


def read_configs(
    root: Path, settings: Mapping[str, Sequence[str]]
) -> tuple[Groups, Mapping[str, Environment]]:
    """Read a project's config groups, those of installed plug-ins with them, and its environments.

    Args:
        root: the project.
        settings: what pytest's settings `FOLDERS` say.

    Raises:
        BadInput: the table, the configs or a plug-in are wrong.
    """
    roots, plugins = _config_roots(root, settings), plugin_folders()
    backends = [plugin.root for plugin in plugins if plugin.axis == "backend"]
    return read_groups(roots, plugins), read_environments(root, (*roots, *backends))


def _config_roots(root: Path, settings: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """Return the config folders that pytest's settings name in a project, the shipped one first."""
    shipped = shipped_configs()
    own = [(root / name).resolve() for name in settings.get(FOLDERS[1], ())]
    return (shipped, *(folder for folder in own if folder != shipped.resolve()))
