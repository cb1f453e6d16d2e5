"""Config folders → axes and their options, read once, without Hydra.

The first folder is the one that comes with tunematrix; its cell.yaml says which axes there are.
Further folders are a user's own: they add options to axes and, in a cell.yaml with nothing but
`defaults`, axes. Installed distributions add options to axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunematrix.configuration import OPTION_MODELS, AddedOption, Configuration, Declarations
from tunematrix.configuration.options import BackendOption, RecipeOption
from tunematrix.configuration.releases import Installed, ReleaseTable
from tunematrix.errors import did_you_mean
from tunematrix.matrix.capabilities import declaration_problems, with_answer
from tunematrix.matrix.plugins import PluginFolder
from tunematrix.matrix.releases import (
    ReleaseFile,
    narrowed,
    read_release_files,
    release_problems,
    version_here,
)
from tunematrix.paths import shown
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import Problem, Route, refuse
from tunematrix.spec.yaml_tree import Tree, Value, read_tree

_NOT_AXES = {"baselines", "regressions", "specs", "tolerances"}
OPEN = "???"
"""Stands for a value that has to be given before a cell can run."""


@dataclass(frozen=True)
class Option:
    """One value of an axis: one file of a config group.

    Attributes:
        axis: the group.
        name: the file's name without .yaml.
        path: the file.
        data: all it says, as plain data.
        declared: the same as its axis's model; what it leaves to interpolation stays text there.
    """

    axis: str
    name: str
    path: Path
    data: Mapping[str, Value]
    declared: Declarations

    @property
    def file(self) -> str:
        """The file relative to its config root."""
        return f"{self.axis}/{self.name}.yaml"


@dataclass(frozen=True)
class Groups:
    """All axes and their options.

    Attributes:
        roots: the config folders, tunematrix's own first.
        axes: axis to option name to option, in the order of the defaults lists.
        defaults: axis to the option that is used when none is named.
        plain: the tree of cell.yaml without its defaults list.
        added: axes that a user's folder has added.
        releases: what is known of releases of the libraries, by file.
    """

    roots: tuple[Path, ...]
    axes: Mapping[str, Mapping[str, Option]]
    defaults: Mapping[str, str]
    plain: Mapping[str, Value]
    added: frozenset[str]
    releases: tuple[ReleaseFile, ...] = ()

    @cached_property
    def known_here(self) -> ReleaseTable:
        """What is known of the releases that are installed in this Python."""
        return narrowed(self.releases, version_here)

    def known_at(self, places: Mapping[str, Installed]) -> Groups:
        """Return these groups with what is known of the releases that backends have elsewhere.

        Args:
            places: by backend, what tells the version of a distribution where its cells run.
        """
        tables = [narrowed(self.releases, has).on(backend) for backend, has in places.items()]
        groups = replace(self)
        vars(groups)["known_here"] = ReleaseTable(
            faults=tuple(one for table in tables for one in table.faults),
            limits=tuple(one for table in tables for one in table.limits),
        )
        return groups

    def backend(self, name: str) -> BackendOption:
        """Return what a backend declares."""
        declared = self.axes["backend"][name].declared
        assert isinstance(declared, BackendOption)
        return declared

    def recipe(self, name: str) -> RecipeOption:
        """Return what a recipe declares."""
        declared = self.axes["recipe"][name].declared
        assert isinstance(declared, RecipeOption)
        return declared

    def with_effect(self, recipe: str) -> frozenset[str]:
        """Return the axes that have an effect on a recipe: its own, or all if it names none."""
        varies = self.recipe(recipe).varies
        return frozenset({*varies, "recipe"} if varies else self.axes)


def read_groups(roots: Sequence[Path], plugins: Sequence[PluginFolder] = ()) -> Groups:
    """Read the config groups of all folders, tunematrix's own first, and options of plug-ins.

    Raises:
        BadInput: something is wrong in them; the text lists all of it, a line each.
    """
    cells = [read_tree(root / "cell.yaml") for root in roots[:1]]
    cells += [read_tree(path) for root in roots[1:] if (path := root / "cell.yaml").is_file()]
    refuse(problem for tree in cells for problem in _cell_problems(tree, tree is cells[0]))
    entries = [entry for tree in cells for entry in _entries(tree)]
    axes: dict[str, dict[str, Option]] = {entry.axis: {} for entry in entries}
    problems = [problem for root in roots for problem in _read_options(root, axes)]
    problems += [problem for plugin in plugins for problem in _read_plugin(plugin, axes)]
    releases = read_release_files(roots)
    problems += release_problems(releases, axes)
    refuse([*problems, *_entry_problems(entries, axes)])
    for option in [option for options in axes.values() for option in options.values()]:
        if not option.path.is_relative_to(roots[0]):
            _let_answer(option, axes)
    return Groups(
        roots=tuple(roots),
        axes=axes,
        defaults={entry.axis: entry.option for entry in entries},
        plain={key: value for key, value in cells[0].data.items() if key != "defaults"},
        added=frozenset(entry.axis for entry in entries if entry.tree is not cells[0]),
        releases=releases,
    )


@dataclass(frozen=True)
class _Entry:
    """One `axis: option` of a defaults list."""

    axis: str
    option: str
    tree: Tree
    route: Route


def _cell_problems(tree: Tree, is_first: bool) -> Iterator[Problem]:
    yield from tree.problems
    defaults = tree.data.get("defaults")
    if not tree.problems and not isinstance(defaults, list):
        yield tree.problem(("defaults",), "is not a list; write `- axis: option` lines below it")
        return
    for index, entry in enumerate(defaults if isinstance(defaults, list) else ()):
        pair = list(entry.values()) if isinstance(entry, dict) else []
        if entry != "_self_" and not (len(pair) == 1 and isinstance(pair[0], str)):
            yield tree.problem(("defaults", index), "is not `axis: option`; write it so")
    if is_first:
        yield from _setting_problems(tree)
    for key in () if is_first else tree.data:
        if key != "defaults":
            yield tree.problem((key,), "has no effect here; only defaults can add to a cell")


def _entries(tree: Tree) -> Iterator[_Entry]:
    defaults = tree.data["defaults"]
    for index, pair in enumerate(defaults if isinstance(defaults, list) else ()):
        for axis, option in pair.items() if isinstance(pair, dict) else ():
            yield _Entry(axis, str(option), tree, ("defaults", index, axis))


def _entry_problems(
    entries: Sequence[_Entry], axes: Mapping[str, Mapping[str, Option]]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for entry in entries:
        if entry.axis in seen:
            yield entry.tree.problem(entry.route, "is an axis already; remove the entry")
        seen.add(entry.axis)
        if entry.option not in axes[entry.axis]:
            advice = did_you_mean(entry.option, axes[entry.axis])
            text = f"there is no file {entry.axis}/{entry.option}.yaml; {advice}"
            yield entry.tree.problem(entry.route, text)


def _read_options(root: Path, axes: Mapping[str, dict[str, Option]]) -> Iterator[Problem]:
    """Put the options of one folder into `axes`; yield what is wrong with them."""
    if not root.is_dir():
        yield Problem(root, None, (), "there is no such folder; check the path of the configs")
        return
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name in _NOT_AXES:
            continue
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml"))
        if files and folder.name not in axes:
            advice = f"{did_you_mean(folder.name, axes)} A new axis needs a default in cell.yaml"
            yield Problem(folder, None, (), f"is not the folder of an axis; {advice}")
            continue
        for file in files:
            yield from _read_option(file, folder, axes)


def _read_plugin(plugin: PluginFolder, axes: Mapping[str, dict[str, Option]]) -> Iterator[Problem]:
    """Put a plug-in's options into `axes`; yield what is wrong with them, and whose they are."""
    for file in sorted(plugin.folder.glob("*.yaml")):
        for problem in _read_option(file, plugin.folder, axes):
            text = f"{problem.text}, or uninstall what brings it: {plugin.origin}"
            yield replace(problem, text=text)


def _let_answer(option: Option, axes: Mapping[str, dict[str, Option]]) -> None:
    """Let an option that was added answer for options that were written without knowing of it."""
    for axis, answers in option.declared.capabilities.items():
        for name in answers.keys() & axes[axis].keys():
            other = axes[axis][name]
            declared = with_answer(other.declared, option.axis, option.name, answers[name])
            axes[axis][name] = replace(other, declared=declared)


def _read_option(
    file: Path, folder: Path, axes: Mapping[str, dict[str, Option]]
) -> Iterator[Problem]:
    options = axes[folder.name]
    if file.parent != folder or file.suffix != ".yaml":
        yield Problem(file, None, (), f"is never read; options are {folder.name}/NAME.yaml")
        return
    if file.stem in options:
        text = f"is in {shown(options[file.stem].path)} already; rename yours"
        yield Problem(file, None, (), text)
        return
    tree = read_tree(file)
    yield from tree.problems
    if tree.problems:
        return
    if "defaults" in tree.data:
        yield tree.problem(("defaults",), "is not supported in an option; write the values out")
    declared, problems = _declared(tree, OPTION_MODELS.get(folder.name, AddedOption))
    yield from problems
    if problems:
        return
    if declared.name != file.stem:
        text = f"is {declared.name}, but the file is {file.name}; make them equal"
        yield tree.problem(("name",), text)
    yield from declaration_problems(tree, declared, folder.name, axes)
    options[file.stem] = Option(folder.name, file.stem, file, tree.data, declared)


def _declared(tree: Tree, model: type[Declarations]) -> tuple[Declarations, tuple[Problem, ...]]:
    """Return an option as its model, and what is wrong with it.

    What is interpolated has its type only once the cell is composed, and is judged there.
    """
    try:
        return model.model_validate(tree.data), ()
    except ValidationError as error:
        misfits = [misfit for misfit in findings(model, error) if not _is_open(misfit.value)]
        problems = tuple(tree.problem(misfit.route, misfit.text) for misfit in misfits)
        return model.model_construct(None, **dict[str, Any](tree.data)), problems


def _is_open(value: object) -> bool:
    return isinstance(value, str) and ("${" in value or value == OPEN)


def _setting_problems(tree: Tree) -> Iterator[Problem]:
    """Yield what is wrong with the sections of cell.yaml, which are no axes."""
    data = {key: value for key, value in tree.data.items() if key != "defaults"}
    try:
        Configuration.model_validate(data)
    except ValidationError as error:
        for misfit in findings(Configuration, error):
            if misfit.kind != "missing" and not _is_open(misfit.value):
                yield tree.problem(misfit.route, misfit.text)
