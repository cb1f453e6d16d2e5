"""The process that examines configs: composes, resolves, imports and builds; a report each.

It runs code of the user's project, so nothing else does: `python -m tunematrix.inspection.examiner
FILE DESCRIPTOR` reads what to do from a JSON file, and writes a line of JSON for each step.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TextIO

import yaml
from omegaconf import OmegaConf

from tunematrix.inspection.compose import Composer
from tunematrix.inspection.examined import Examined
from tunematrix.inspection.interpolations import resolve
from tunematrix.inspection.layout import TARGET, Layout
from tunematrix.inspection.options import TreeExamination
from tunematrix.inspection.reports import ConfigReport
from tunematrix.inspection.source import import_name
from tunematrix.inspection.targets import (
    Lacking,
    fit,
    locate,
    place_of,
    target_nodes,
)
from tunematrix.inspection.tree import Discovery, discover, is_of_another_tool
from tunematrix.spec.problems import Problem, dotted
from tunematrix.spec.yaml_tree import syntax_problem


@dataclass(frozen=True)
class Request:
    """What to do.

    Attributes:
        paths: files and folders. instantiate, forward: whether to build objects, and run models.
        targets: whether to import what configs name. values: whether to give configs' values.
        crashed: steps that ended an earlier process, each with how.
    """

    paths: tuple[str, ...]
    instantiate: bool = False
    forward: bool = False
    targets: bool = True
    values: bool = False
    crashed: Mapping[str, str] = field(default_factory=dict)


class Examiner:
    """Examines what a request asks for.

    Args:
        request: what to do. out: takes a line of JSON for each step.
    """

    def __init__(self, request: Request, out: TextIO) -> None:
        self.request = request
        self.out = out
        self.discovery: Discovery = discover([Path(path) for path in request.paths])
        self.broken_setup: tuple[str, ...] = ()

    def run(self) -> None:
        """Do everything, and write all reports at the end of it."""
        self._prepare_imports()
        self.broken_setup = tuple(self._run_setup())
        examined = [*self._plain(), *self._trees(), *self._mains()]
        wanted = set(self.discovery.wanted)
        kept = [
            one for one in examined if one.report.file in wanted or one.report.file.suffix == ".py"
        ]
        if self.request.targets:
            self._check_targets(kept)
        if self.request.instantiate or self.request.forward:
            self._build(kept)
        for one in sorted(kept, key=lambda one: str(one.report.file)):
            self.say(report=one.report.packed())
            if self.request.values and one.resolved is not None:
                self.say(values=one.resolved.values, followers=one.resolved.followers)
        self.say(end=True)

    def say(self, **event: Any) -> None:
        """Write one line."""
        self.out.write(json.dumps(event, default=str) + "\n")
        self.out.flush()

    def count(self, what: str, done: int, total: int) -> None:
        """Write how many are done, of how many."""
        self.say(what=what, done=done, total=total)

    @contextmanager
    def attempt(self, step: str) -> Iterator[str]:
        """Announce a step that may end this process; give how it did before, or nothing."""
        self.say(step=step)
        yield self.request.crashed.get(step, "")
        self.say(step="")

    def _prepare_imports(self) -> None:
        """Put the folders that the project is imported from on the path, as running it would."""
        project = self.discovery.project
        tops = [project / "src", project]
        for tree in self.discovery.trees:
            top = tree.root
            while (top / "__init__.py").is_file():
                top = top.parent
            tops.append(top.parent if top == tree.root else top)
        for top in reversed([top for top in tops if top.is_dir()]):
            if str(top) not in sys.path:
                sys.path.insert(0, str(top))

    def _run_setup(self) -> Iterator[str]:
        """Import the modules that register resolvers; yield what failed."""
        project = self.discovery.project
        modules = [(project, name) for name in self.discovery.settings.imports]
        in_use = _has_resolvers_or_schemas(self.discovery)
        files = self.discovery.source.registering if in_use else []
        modules += [import_name(file, project) for file in files]
        for folder, name in modules:
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            with self.attempt(f"importing {name}") as how:
                if failure := f"ended the process: {how}" if how else _import(name, project):
                    yield f"importing {name} {failure}"

    def _plain(self) -> Iterator[Examined]:
        """Yield what lies outside of all config folders."""
        for layout in self.discovery.plain:
            other = is_of_another_tool(layout) or (layout.problems and layout.is_template)
            report = ConfigReport(layout.path, "other" if other else "plain")
            if layout.problems:
                problems = () if layout.is_template else layout.problems
                notes = ("a template of another tool, which isn't YAML",) if not problems else ()
                yield Examined(replace(report, problems=problems, notes=notes))
                continue
            if other or not (layout.has_target or layout.texts):
                yield Examined(report)
                continue
            yield self._alone(layout, report)

    def _alone(self, layout: Layout, report: ConfigReport) -> Examined:
        """Examine a file by itself; its `${…}` are OmegaConf's only if something says so."""
        try:
            config = OmegaConf.load(layout.path)
            resolved = resolve(config)
        except Exception as error:  # noqa: BLE001 - other tools' YAML may be anything
            if not layout.has_target:
                return Examined(report)
            if isinstance(error, yaml.MarkedYAMLError):
                return Examined(report.with_problems((syntax_problem(layout.path, error),)))
            text = f"can't be read by OmegaConf: {str(error).splitlines()[0]}"
            return Examined(report.with_problems((layout.problem((), text),)))
        faulty = {one.route for one in resolved.unresolved}
        is_omegaconf = layout.has_target or any(route not in faulty for route in layout.texts)
        if not is_omegaconf:
            note = "its ${…} are another tool's, or none of them can be resolved here"
            return Examined(replace(report, notes=(note,)))
        examined = Examined(report, resolved, lambda route: (layout, route))
        return examined.add_resolution(self.broken_setup)

    def _trees(self) -> Iterator[Examined]:
        for tree in self.discovery.trees:
            wanted = {layout.path for layout in tree.layouts.values()} & set(self.discovery.wanted)
            yield from TreeExamination(tree, wanted, self.count, self.broken_setup).run()

    def _mains(self) -> Iterator[Examined]:
        """Yield the functions under `@hydra.main` whose folder or config isn't there."""
        trees = {tree.root: tree for tree in self.discovery.trees}
        for main in self.discovery.source.mains:
            text = ""
            if main.folder is not None and not main.folder.is_dir():
                text = f"there is no config folder {main.folder}; correct config_path"
            elif main.folder in trees and main.config:
                tree = trees[main.folder]
                name = main.config.removesuffix(".yaml")
                if name not in tree.layouts and not Composer(tree).exists(name):
                    known = ", ".join(tree.primaries) or "none"
                    text = f"there is no config {name} in {main.folder}, which has {known}"
                    text += "; correct config_name"
            if text:
                problem = Problem(main.file, main.line, ("@hydra.main",), text)
                yield Examined(ConfigReport(main.file, "config", problems=(problem,)))

    def _check_targets(self, examined: Sequence[Examined]) -> None:
        """Import every target once, and bind each config's arguments to it."""
        project = self.discovery.project
        source = self.discovery.source

        @cache
        def located(name: str) -> tuple[Any, str]:
            with self.attempt(f"importing {name}") as how:
                ended = f"importing {name} ended the process: {how}"
                return (None, ended) if how else locate(name, project)

        in_bases: set[Problem] = set()
        # Configs first: what is wrong in them is no fault of the options composed into them.
        for number, one in enumerate(sorted(examined, key=lambda one: one.report.kind != "config")):
            self.count("targets", number, len(examined))
            if one.resolved is None:
                continue
            problems, notes = list[Problem](), list[str]()
            for node in target_nodes(one.resolved.values):
                found, why = located(node.target)
                if why:
                    problems.append(one.place((*node.route, TARGET), why))
                    continue
                for misfit in fit(found, node):
                    if not isinstance(misfit, Lacking):
                        problems.append(one.place((*node.route, *misfit.key), misfit.text))
                        continue
                    names = ", ".join(misfit.names)
                    if all(source.may_supply(name) for name in misfit.names):
                        notes.append(f"{dotted(node.route) or node.target} gets {names} from code")
                    else:
                        text = f"{node.target} needs {names}, which neither the config nor the code"
                        text += " gives; add it"
                        problems.append(one.place((*node.route, TARGET), text))
            if one.report.kind == "config":
                in_bases.update(problems)
            fresh = tuple(p for p in problems if one.is_to_blame_for(p, in_bases))
            one.report = replace(one.report.with_problems(fresh), notes=(*one.report.notes, *notes))

    def _build(self, examined: Sequence[Examined]) -> None:
        """Build objects, and run models, of all that has no fault so far."""
        builder = resolve_name("tunematrix.inspection.building:Builder")(self)
        total = len(examined)
        for number, one in enumerate(examined):
            self.count("objects", number, total)
            if one.resolved is not None and not one.report.problems:
                builder.build(one)


def _import(name: str, project: Path) -> str:
    """Import a module; return how that failed, or nothing."""
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's module raises
        where = place_of(error, project)
        return f"failed{f' at {where}' if where else ''} with {type(error).__name__}: {error}"
    return ""


def _has_resolvers_or_schemas(discovery: Discovery) -> bool:
    """Return whether anything of what is checked may need what the project's Python registers."""
    return bool(discovery.trees) or any(layout.texts for layout in discovery.plain)


def main() -> None:
    """Body of the process."""
    file, descriptor = sys.argv[1:3]
    data = json.loads(Path(file).read_text(encoding="utf-8"))
    request = Request(**data)
    # The project's own code sees no arguments of ours.
    sys.argv = ["tunematrix-check"]
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as out:
        Examiner(request, out).run()


if __name__ == "__main__":
    main()
