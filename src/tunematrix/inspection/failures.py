"""Why a composition failed, at the file and line that have to be changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml
from hydra.errors import MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from tunematrix.errors import did_you_mean
from tunematrix.inspection.defaults import override_key, package_route, reachable
from tunematrix.inspection.layout import Layout
from tunematrix.inspection.tree import HydraTree
from tunematrix.spec.problems import Problem, route_of
from tunematrix.spec.yaml_tree import syntax_problem


def explain(error: Exception, tree: HydraTree, origin: str, base: str) -> Iterator[Problem]:
    """Yield why a composition failed, at the line that has to be changed.

    Args:
        error: what Hydra, OmegaConf or the YAML parser raised. tree: the config folder.
        origin: name of the file that the composition was made to look at.
        base: its primary config.
    """
    if isinstance(error, MissingConfigException):
        yield from _missing(error, tree, origin)
        return
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        file = Path(error.problem_mark.name)
        layouts = [one for one in tree.layouts.values() if one.path == file]
        known = [problem for one in layouts for problem in one.problems]
        yield from known or [syntax_problem(file, error)]
        return
    cause = error if isinstance(error, OmegaConfBaseException) else None
    cause = cause or next(
        (e for e in (error.__cause__, error.__context__) if isinstance(e, OmegaConfBaseException)),
        None,
    )
    if cause is not None:
        yield _misfit(cause, tree, origin, base)
        return
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    file, line = _place_of_defaults(tree, origin, base)
    yield Problem(file, line, ("defaults",), f"can't be composed: {text or repr(error)}")


def _missing(error: MissingConfigException, tree: HydraTree, origin: str) -> Iterator[Problem]:
    """Yield the problem with a file that isn't there, where it is first named."""
    wanted = error.missing_cfg_file or ""
    options = list(error.options or ())
    group, _, option = wanted.rpartition("/")
    options = options or [
        PurePosixPath(name).name
        for name in tree.layouts
        if group and str(PurePosixPath(name).parent) == group
    ]
    advice = did_you_mean(option, options) if options else f"there is no folder {group}"
    advice = advice if group else did_you_mean(option, tree.layouts)
    places = [
        (tree.layouts[name].path, entry)
        for name, entry in reachable(tree, origin)
        if wanted in entry.targets(PurePosixPath(name).parent)
    ] or [
        (layout.path, entry)
        for name, layout in tree.layouts.items()
        for entry in layout.defaults or ()
        if wanted in entry.targets(PurePosixPath(name).parent)
    ]
    text = f"there is no config {wanted}.yaml; {advice}"
    for path, entry in places[:1]:
        yield Problem(path, entry.line, ("defaults",), text)
    if not places:
        file, line = _place_of_defaults(tree, origin, origin)
        yield Problem(file, line, ("defaults",), text)


def _misfit(cause: OmegaConfBaseException, tree: HydraTree, origin: str, base: str) -> Problem:
    """Return the problem with values that can't be merged, where the last of them stands."""
    key = cause.full_key or (str(cause.key) if cause.key is not None else "")
    route = route_of(key)
    text = (cause.msg or str(cause)).strip().splitlines()[0].strip()
    names = dict.fromkeys([origin, *(n for n, _ in reachable(tree, origin)), base,
                           *(n for n, _ in reachable(tree, base))])  # fmt: skip
    for name in (name for name in names if name in tree.layouts):
        layout = tree.layouts[name]
        for package in ((), package_route(_package(name, layout))):
            rest = route[len(package) :]
            if rest and route[: len(package)] == package and rest in layout.lines:
                return Problem(layout.path, layout.lines[rest], route, f"can't be merged: {text}")
        # OmegaConf names no route where it can't read a text at all.
        for at, value in layout.texts.items():
            if value in str(cause.msg or ""):
                return Problem(layout.path, layout.line(at), at, f"can't be read: {text}")
    file, line = _place_of_defaults(tree, origin, base)
    return Problem(file, line, route, f"can't be merged: {text}")


def _place_of_defaults(tree: HydraTree, origin: str, base: str) -> tuple[Path, int | None]:
    """Return the file and line of an override that fits nothing, or of the defaults list."""
    layout = tree.layouts.get(origin) or tree.layouts.get(base)
    if layout is None:
        return tree.root, None
    groups = {override_key(name, entry) for name, entry in reachable(tree, base)
              if "override" not in entry.words}  # fmt: skip
    for entry in layout.defaults or ():
        if "override" in entry.words and override_key(origin, entry) not in groups:
            return layout.path, entry.line
    return layout.path, layout.line(("defaults",))


def _package(name: str, layout: Layout) -> str:
    """Return the package that a file may be put under."""
    folder = ".".join(PurePosixPath(name).parent.parts)
    return layout.package.replace("_group_", folder) or folder
