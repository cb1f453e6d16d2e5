"""What the command line of one pytest run is for: specs, what is inspected, and markers."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import pytest

from tunematrix.paths import adhoc_specs, shipped_configs
from tunematrix.plugin.markers import named_markers
from tunematrix.project import spec_folders, spec_place


class Arguments:
    """The paths and markers that one pytest run is for.

    Attributes:
        inspected: configs and pyproject.toml, where the project wants them inspected.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.inspected: tuple[Path, ...] = ()

    @property
    def environment(self) -> str | None:
        """What --environment names."""
        name: str | None = self.config.getoption("tunematrix_environment")
        return name

    @cached_property
    def own_folders(self) -> tuple[Path, ...]:
        """The spec folders that the project configures: a path above one reaches all of it."""
        named: list[str] = self.config.getini("tunematrix_specs")
        return spec_folders(self.config.rootpath, named) if named else ()

    @cached_property
    def spec_folders(self) -> tuple[Path, ...]:
        """Folders whose YAML files are specs; those of ad hoc cells and the shipped ones, too."""
        adhoc = adhoc_specs(self.config.rootpath)
        return (*self.own_folders, shipped_configs() / "specs", adhoc)

    def take_the_specs(self) -> None:
        """Where the command line names an environment and no path, let all specs be run.

        Those are the specs that the project names, or the shipped suite. Folders that the setting
        testpaths names are paths as well. Shipped specs are found by their name: shipped/lora.yaml.
        """
        config = self.config
        if self.names_no_path and config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
            folders = spec_folders(config.rootpath, config.getini("tunematrix_specs"))
            config.args[:] = map(str, folders)
        config.args[:] = map(spec_place, config.args)

    @property
    def names_no_path(self) -> bool:
        """Whether a run is for all that the settings name: testpaths, or an environment's specs.

        A plain `pytest` without such settings is for whatever tests the folder has.
        """
        source = pytest.Config.ArgsSource
        if self.config.args_source is source.INVOCATION_DIR:
            return self.environment is not None
        return self.config.args_source is source.TESTPATHS

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The files and folders that the command line names, node ids cut off."""
        here = self.config.invocation_params.dir
        return tuple((here / text.partition("::")[0]).resolve() for text in self.config.args)

    @cached_property
    def spec_paths(self) -> tuple[Path, ...]:
        """The spec files and spec folders that the command line reaches."""
        folders = [f for path in self.paths for f in self.own_folders if f.is_relative_to(path)]
        below = [path for path in self.paths if self.is_spec(path) or self._is_below(path)]
        return tuple(dict.fromkeys([*folders, *below]))

    def is_spec(self, path: Path) -> bool:
        """Whether a path is a YAML file in a configured spec folder, or was named as a file."""
        if path.suffix not in (".yaml", ".yml"):
            return False
        # A link to a file elsewhere is a spec of the folder that it lies in.
        if self._is_below(path.resolve()) or self._is_below(path.parent.resolve() / path.name):
            return True
        return path.resolve() in self.paths and not self._is_inspected(path.resolve())

    def is_own(self, path: Path) -> bool:
        """Whether a folder or file lies in the project's spec folders, and no option ignores it."""
        here = path.parent.resolve() / path.name
        is_below = any(here.is_relative_to(folder) for folder in self.own_folders)
        return is_below and not self.is_ignored(here)

    def is_ignored(self, path: Path) -> bool:
        """Whether --ignore or --ignore-glob leaves a path out; somebody has asked for that."""
        option, here = self.config.option, self.config.invocation_params.dir
        roots = [(here / name).resolve() for name in option.ignore or ()]
        patterns = [str(here / pattern) for pattern in option.ignore_glob or ()]
        return any(path.is_relative_to(root) for root in roots) or any(
            fnmatchcase(str(one), pattern) for one in (path, *path.parents) for pattern in patterns
        )

    @property
    def is_only_specs(self) -> bool:
        """Whether the command line reaches spec files and folders of specs, and nothing else.

        Nothing, that is, but configs and command lines that are inspected, which aren't Python.
        """
        return all(
            self.is_spec(path) or self._is_below(path) or self._is_inspected(path)
            for path in self.paths
        )

    @property
    def markers(self) -> Mapping[str, bool]:
        """The markers that -m names; to each, whether it is asked for."""
        return named_markers(self.config.getoption("markexpr"))

    @property
    def named_cells(self) -> tuple[str, ...]:
        """The ids of cells and relations that node ids on the command line name."""
        parts = (text.partition("::") for text in self.config.args)
        here = self.config.invocation_params.dir
        return tuple(name for file, _, name in parts if name and self.is_spec(here / file))

    @property
    def filters(self) -> tuple[str, ...]:
        """The options that choose among cells and were given, by their names."""
        option = self.config.option
        given = {
            "--axis": option.tunematrix_axis,
            "-k": option.keyword,
            "-m": option.markexpr,
            "--deselect": option.deselect,
            "--shard": option.tunematrix_shard,
        }
        return tuple(name for name, value in given.items() if value)

    @property
    def chooses_cells(self) -> bool:
        """Whether the command line chooses among the cells of the specs that it reaches."""
        return bool(self.filters) or any("::" in text for text in self.config.args)

    def asks_for(self, marker: str) -> bool:
        """Whether -m asks for a marker, of items that aren't there otherwise."""
        return self.markers.get(marker, False)

    def _is_inspected(self, path: Path) -> bool:
        return any(path.is_relative_to(one) for one in self.inspected)

    def _is_below(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.spec_folders)
