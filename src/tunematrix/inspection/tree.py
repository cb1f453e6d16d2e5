"""Which files there are and what each is: configs, options of groups, YAML of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath

from tunematrix.errors import BadInput, NothingTested
from tunematrix.inspection.layout import Layout, read_layout
from tunematrix.inspection.reports import Kind
from tunematrix.inspection.settings import InspectSettings, inspect_settings
from tunematrix.inspection.source import ProjectSource, read_source
from tunematrix.paths import files_below, shown

SUFFIXES = (".yaml", ".yml")
_SKIPPED = (".*", "node_modules", "site-packages", "__pycache__")
_OTHER_TOOLS: tuple[frozenset[str], ...] = tuple(
    frozenset(keys.split())
    for keys in (
        "services", "on jobs", "true jobs", "jobs steps", "apiVersion kind", "stages", "openapi",
        "swagger", "channels dependencies", "program parameters", "program method", "repos",
        "site_name", "version updates", "AWSTemplateFormatVersion", "Resources", "cff-version",
        "conda", "mkdocs", "sphinx", "coverage codecov", "hosts tasks",
    )
)  # fmt: skip
"""Keys at the top of files of other tools, whose `${…}` isn't OmegaConf's."""


@dataclass(frozen=True)
class HydraTree:
    """One config folder of Hydra.

    Attributes:
        root: the folder. layouts: all YAML files below it, by the name that Hydra knows them by.
        named: names of primary configs that `@hydra.main` gives; one may be no file, but a
            structured config.
    """

    root: Path
    layouts: Mapping[str, Layout]
    named: tuple[str, ...] = ()

    @cached_property
    def included(self) -> frozenset[str]:
        """The files that a defaults list includes by itself, and doesn't choose from a group."""
        return frozenset(
            target
            for name, layout in self.layouts.items()
            for entry in layout.defaults or ()
            if not entry.group
            for target in entry.targets(PurePosixPath(name).parent)
        )

    @cached_property
    def primaries(self) -> tuple[str, ...]:
        """The names of the configs that are composed by themselves."""
        at_the_top = [
            name
            for name, layout in self.layouts.items()
            if "/" not in name and name not in self.included and not is_of_another_tool(layout)
        ]
        return tuple(dict.fromkeys([*self.named, *at_the_top]))

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The primary configs that options are composed into: those with a defaults list."""
        whole = [
            name
            for name in self.primaries
            if name in self.named or self.layouts[name].defaults is not None
        ]
        return tuple(whole) or self.primaries

    def kind(self, name: str) -> Kind:
        """Return what a file of this folder is."""
        layout = self.layouts[name]
        if name in self.primaries:
            return "config"
        if name in self.included:
            return "included"
        return "other" if is_of_another_tool(layout) else "option"


@dataclass(frozen=True)
class Discovery:
    """All that is to be checked.

    Attributes:
        project: the project's folder. settings: what its pyproject.toml says. source: its Python.
        trees: the config folders of Hydra. plain: files outside of them.
        wanted: the files that were asked for.
    """

    project: Path
    settings: InspectSettings
    source: ProjectSource
    trees: tuple[HydraTree, ...]
    plain: tuple[Layout, ...]
    wanted: tuple[Path, ...]


def yaml_files(folder: Path) -> Iterator[Path]:
    """Yield the YAML files below a folder, without hidden folders and what Hydra's runs left."""
    for file in files_below(folder, _SKIPPED, _is_of_a_run):
        if file.suffix in SUFFIXES and not file.name.startswith("."):
            yield file


def _is_of_a_run(folder: Path) -> bool:
    """Return whether Hydra has made a folder for a run."""
    return (folder / ".hydra").is_dir() or (folder / "multirun.yaml").is_file()


def is_of_another_tool(layout: Layout) -> bool:
    """Whether a file is YAML of another tool, going by the keys at its top."""
    if layout.has_target or layout.defaults is not None or layout.package:
        return False
    return any(keys <= layout.top for keys in _OTHER_TOOLS)


def config_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return all configs below some paths.

    Raises:
        BadInput: a path isn't there, or isn't YAML; the project's settings are wrong.
        NothingTested: a folder holds no config.
    """
    resolved = [path.resolve() for path in paths]
    for path, given in zip(resolved, paths, strict=True):
        if not path.exists():
            raise BadInput(f"{shown(given)}: there is no such file or folder; check the path")
        if path.is_file() and path.suffix not in SUFFIXES:
            raise BadInput(f"{shown(given)}: is not a YAML file; give configs, or their folder")
    project = project_of(resolved[0])
    settings = inspect_settings(project)
    return tuple(dict.fromkeys(f for path in resolved for f in _wanted(path, project, settings)))


def discover(paths: Sequence[Path]) -> Discovery:
    """Find out what each of the configs below some paths is.

    Raises:
        BadInput: a path isn't there, or isn't YAML; the project's settings are wrong.
        NothingTested: a folder holds no config.
    """
    wanted = config_files(paths)
    resolved = [path.resolve() for path in paths]
    project = project_of(resolved[0])
    settings = inspect_settings(project)
    source = read_source(project)
    layouts = {file: read_layout(file) for file in wanted}
    roots = _outermost(_roots(resolved, layouts, project, settings, source))
    trees = tuple(_tree(root, layouts, source, settings, project) for root in roots)
    inside = {layout.path for tree in trees for layout in tree.layouts.values()}
    plain = tuple(layout for file, layout in layouts.items() if file not in inside)
    return Discovery(project, settings, source, trees, plain, wanted)


def project_of(path: Path) -> Path:
    """Return the folder of the project that a path belongs to.

    That is the nearest one above with a pyproject.toml, setup.py or repository; elsewhere the
    folder that the path lies in.
    """
    start = path if path.is_dir() else path.parent
    marks = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in marks):
            return folder
    return start


def _wanted(path: Path, project: Path, settings: InspectSettings) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    files = [file for file in yaml_files(path) if not _is_excluded(file, project, settings)]
    if not files:
        raise NothingTested(
            f"{shown(path)}: holds no config, so nothing would be checked; "
            "name a folder with .yaml files"
        )
    return tuple(files)


def _is_excluded(file: Path, project: Path, settings: InspectSettings) -> bool:
    name = str(file.relative_to(project)) if file.is_relative_to(project) else str(file)
    return any(fnmatch(name, pattern) for pattern in settings.exclude)


def _roots(
    paths: Sequence[Path],
    layouts: Mapping[Path, Layout],
    project: Path,
    settings: InspectSettings,
    source: ProjectSource,
) -> Iterator[Path]:
    """Yield the config folders of Hydra that some of the files lie in."""
    declared = [(project / name).resolve() for name in settings.roots]
    for root, name in zip(declared, settings.roots, strict=True):
        if not root.is_dir():
            raise BadInput(f"tool.tunematrix.inspect.roots: there is no folder {name}; correct it")
    declared += [main.folder for main in source.mains if main.folder and main.folder.is_dir()]
    declared += [folder for folder in source.folders if folder.is_dir()]
    for root in declared:
        if any(file.is_relative_to(root) for file in layouts):
            yield root
    for layout in layouts.values():
        if layout.defaults and not any(layout.path.is_relative_to(root) for root in declared):
            yield _root_of(layout, project)
    for path in paths:
        yield from _above(path, project)


def _root_of(layout: Layout, project: Path) -> Path:
    """Return the folder from which the entries of a defaults list are there."""
    own = layout.path.parent
    leading = [
        entry.group or entry.options[0]
        for entry in layout.defaults or ()
        if (entry.absolute or "override" in entry.words)
        and (entry.group or entry.options)
        and not entry.group.startswith("hydra/")
    ]
    candidates = [own, *(folder for folder in own.parents if folder.is_relative_to(project))]

    def present(folder: Path) -> int:
        return sum(
            (folder / name).is_dir() or (folder / f"{name}.yaml").is_file() for name in leading
        )

    # The nearest among equals: `max` takes the first.
    return max(candidates, key=present) if leading else own


def _above(path: Path, project: Path) -> Iterator[Path]:
    """Yield the folders above a path that hold a file with a defaults list, within the project."""
    for folder in path.parents:
        if not folder.is_relative_to(project):
            return
        files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
        if any(read_layout(file).defaults for file in files):
            yield folder


def _outermost(roots: Iterable[Path]) -> list[Path]:
    unique = sorted(set(roots))
    return [
        root
        for root in unique
        if not any(root != other and root.is_relative_to(other) for other in unique)
    ]


def _tree(
    root: Path,
    layouts: Mapping[Path, Layout],
    source: ProjectSource,
    settings: InspectSettings,
    project: Path,
) -> HydraTree:
    """Read all of a config folder, though not all of it was asked for."""
    files = [file for file in yaml_files(root) if not _is_excluded(file, project, settings)]
    known = {
        str(PurePosixPath(file.relative_to(root)).with_suffix("")): layouts.get(file)
        or read_layout(file)
        for file in files
        # Hydra knows no other ending.
        if file.suffix == ".yaml"
    }
    mains = [main for main in source.mains if main.folder == root and main.config]
    named = [str(main.config).removesuffix(".yaml") for main in mains]
    return HydraTree(root, known, tuple(dict.fromkeys(named)))
