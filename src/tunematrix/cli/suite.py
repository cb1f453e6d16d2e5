"""Verbs of the suite: plan, run, schema."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.cli.app import (
    PASSES_ON,
    AxisOption,
    EnvironmentOption,
    JsonOption,
    StrategyOption,
    Verb,
    app,
    place,
)
from tunematrix.command.debugging import DebugSpecs, debug_specs
from tunematrix.command.specs import completed
from tunematrix.command.trainers import read_trainers
from tunematrix.configuration import OPTION_MODELS
from tunematrix.configuration.reference import option_schema
from tunematrix.errors import BadInput, NothingTested, counted, did_you_mean, nearest
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.matrix.cells import resolve
from tunematrix.matrix.combining import combined_by
from tunematrix.matrix.elsewhere import owners, way_out
from tunematrix.matrix.missing import missing_pairs
from tunematrix.matrix.plan import Plan, network
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import adhoc_specs, made, unwritable
from tunematrix.project import Project, read_project, spec_place
from tunematrix.report.meetings import covering_lines, missing_as_json, missing_lines
from tunematrix.report.saying import say, say_json
from tunematrix.spec.loader import json_schema, load_specs
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import dotted
from tunematrix.spec.yaml_tree import Value, read_value

DebugModeOption = Annotated[
    bool,
    typer.Option(
        "--debug-mode",
        metavar="",
        help="Each config of your trainers once, for a few steps, and each launcher once.",
    ),
]


@app.command(cls=Verb)
def plan(
    specs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SPEC", help="Spec files or folders; default: all."),
    ] = None,
    environment: EnvironmentOption = None,
    axis: AxisOption = None,
    strategy: StrategyOption = "",
    missing: Annotated[
        bool,
        typer.Option(
            "--missing", metavar="", help="Show pairs of options that never meet in a cell."
        ),
    ] = False,
    debug_mode: DebugModeOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the cells that would run, without running any.

    Relations follow, each with the cells that it compares (its arms); then
    what is declared unsupported, with the reason; then which pairs of options
    can't meet, where a matrix isn't run whole.

    Example: tunematrix plan --axis quantizer=hqq-int4
    Example: tunematrix run --collect-only -q -m smoke
    """
    project = read_project(Path.cwd(), environment)
    _refuse_settings(specs or ())
    selection = parse_selection(axis or (), project.groups)
    loaded = _specs(project, specs)
    refuse_unknown_checks(project.groups, loaded)
    light = debug_specs(loaded, read_trainers(project.root)) if debug_mode else None
    loaded = combined_by(light.specs if light else loaded, strategy)
    found = make_plan(loaded, project.groups, project.environment, selection)
    if not found.cells and not found.exclusions:
        owning = owners(
            loaded,
            project.groups,
            project.environments.values(),
            project.environment,
            selection,
        )
        todo = way_out(owning, ["--axis"] if axis else []) or "name other specs"
        raise NothingTested(f"no cell matches in {project.environment.name}; {todo}")
    if missing:
        pairs = missing_pairs(found, project.groups)
        if as_json:
            say_json(missing_as_json(pairs))
        else:
            say("\n".join(missing_lines(pairs)))
    elif as_json:
        say_json(found.to_json())
    else:
        say(_as_text(found))
        if light:
            say(_sum_of(found, light))


@app.command(
    cls=Verb,
    options_metavar="[OPTIONS] [KEY=VALUE]... [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def run(
    context: typer.Context,
    environment: EnvironmentOption = None,
    axis: AxisOption = None,
    strategy: StrategyOption = "",
    words: Annotated[
        str,
        typer.Option("-k", metavar="WORDS", help="Only cells with this in their name: hqq-int4."),
    ] = "",
    markers: Annotated[
        str,
        typer.Option("-m", metavar="MARKER", help="Only cells with this marker: smoke, probe."),
    ] = "",
    debug_mode: DebugModeOption = False,
    fleet: Annotated[
        str,
        typer.Option(
            "--fleet",
            metavar="ADDRESS",
            help="Run on the workers of this scheduler; -e may name several: cpu,cuda.",
        ),
    ] = "",
    debug: Annotated[
        str,
        typer.Option(metavar="CELL", help="Run one cell in this process; breakpoints work."),
    ] = "",
) -> None:
    """Run the suite in this virtualenv, or one cell written as KEY=VALUE.

    Other arguments go to pytest: spec files, node ids, -n, -x, --fault.

    Example: tunematrix run -m smoke
    Example: tunematrix run method=lora quantizer=hqq-int4 train.max_steps=20
    """
    project = read_project(Path.cwd(), environment)
    overrides = [a for a in context.args if "=" in a and not a.startswith("-") and "::" not in a]
    others = [argument for argument in context.args if argument not in overrides]
    arguments = ["--live", f"--environment={project.environment.name}", place(project), *others]
    arguments += [f"--axis={one}" for one in axis or ()]
    arguments += [f"--strategy={strategy}"] if strategy else []
    arguments += [f"-k={words}"] if words else []
    arguments += [f"-m={markers}"] if markers else []
    arguments += ["--debug-mode"] if debug_mode else []
    arguments += [f"--fleet={fleet}"] if fleet else []
    if debug_mode and overrides:
        named = ", ".join(one.partition("=")[0] for one in overrides)
        text = f"debug mode takes no overrides ({named}); its arguments stand in pyproject.toml"
        raise BadInput(f"{text}, in [tool.tunematrix.trainers.NAME.debug]")
    if overrides:
        arguments.append(str(_ad_hoc(overrides, project)))
    elif debug:
        arguments += ["-s", "--isolation=foreground", _node(debug, project)]
    elif not any(Path(spec_place(other).partition("::")[0]).exists() for other in others):
        arguments += [str(folder) for folder in project.spec_folders]
    # pytest is the one driver. As a module, so that forked cells don't import it.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


@app.command(cls=Verb)
def schema(
    axis: Annotated[
        str,
        typer.Option(metavar="AXIS", help="Print the schema of this axis's option files instead."),
    ] = "",
) -> None:
    """Print the JSON schema of a spec, for editors that check YAML.

    Example: tunematrix schema > spec.schema.json
    """
    if axis and axis not in OPTION_MODELS:
        raise BadInput(f"--axis {axis}: is not an axis; {did_you_mean(axis, OPTION_MODELS)}")
    say_json(option_schema(axis) if axis else json_schema())


def _specs(project: Project, paths: Sequence[Path] | None = None) -> tuple[Spec, ...]:
    """Return specs of a project, all of them by default, with what its trainers decide for them."""
    loaded = load_specs(paths or project.spec_folders)
    return completed(loaded, read_trainers(project.root), project.root)


def _refuse_settings(paths: Sequence[Path]) -> None:
    """Refuse KEY=VALUE in the place of a spec: `run` takes it."""
    for path in paths:
        if "=" in str(path) and not path.exists():
            text = f"{path}: there is no such spec; plan takes AXIS=OPTION only behind --axis"
            raise BadInput(f"{text}, and tunematrix run takes any KEY=VALUE")


def _as_text(found: Plan) -> str:
    lines = [
        f"{cell.id}  needs a network: {address}" if (address := network(cell)) else cell.id
        for cell in found.cells
    ]
    lines += [
        f"{one.id}  = {', '.join(arm.cell.id for arm in one.arms)}" for one in found.relations
    ]
    lines += [f"{one.cell.id}  unsupported: {one.reason}" for one in found.exclusions]
    lines += covering_lines(found.combined)
    total = f"{counted(len(found.cells), 'cell')}, {counted(len(found.exclusions), 'exclusion')}"
    total += f", {counted(len(found.relations), 'relation')}" if found.relations else ""
    return "\n".join([*lines, "", f"{total} in {found.environment.name}"])


def _sum_of(found: Plan, light: DebugSpecs) -> str:
    """Return what the cells of debug mode are, as a sum."""
    configs = {spec.test_id for spec in light.configs}
    count = sum(cell.spec.test_id in configs for cell in found.cells)
    others = len(found.cells) - count
    return f"{counted(others, 'environment')} + {counted(count, 'config')} = {len(found.cells)}"


def _ad_hoc(overrides: list[str], project: Project) -> Path:
    """Write a spec for one cell given as overrides; pytest runs it like any other."""
    pairs = [override.partition("=") for override in overrides]
    for key, count in Counter(key for key, _, _ in pairs).items():
        if count > 1:
            raise BadInput(f"{key}: is given {count} times; give it once")
    axes = {key: value for key, _, value in pairs if key in project.groups.axes}
    settings = {key: _value(key, value) for key, _, value in pairs if key not in axes}
    if "model" in axes and Path(axes["model"]).expanduser().is_dir():
        axes["model"] = str(Path(axes["model"]).expanduser().resolve())
    name = "adhoc-" + hashlib.sha256(" ".join(sorted(overrides)).encode()).hexdigest()[:8]
    spec = {
        "test_id": name,
        "description": masked(" ".join(overrides), secrets_in(os.environ)),
        "recipe": axes.pop("recipe", "sft"),
        "matrix": {axis: [option] for axis, option in axes.items()},
        "overrides": settings,
    }
    _refuse_pairs(spec, {key: value for key, _, value in pairs}, project)
    path = adhoc_specs(project.root) / f"{name}.yaml"
    made(path.parent)
    try:
        # A value has to be there as it was given, a credential as well: the cell is run with it.
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise unwritable(path.parent, error) from None
    return path


def _value(key: str, text: str) -> Value:
    try:
        return read_value(text)
    except ValueError as error:
        raise BadInput(f"{key}={text}: {error}") from None


def _refuse_pairs(spec: Mapping[str, Any], given: Mapping[str, str], project: Project) -> None:
    """Refuse what is wrong with overrides as they were given: nobody has written the spec's file.

    Raises:
        BadInput: an axis, an option, a key or a value is wrong; the text lists all of it.
    """
    try:
        problems = resolve(Spec.model_validate(spec), project.groups).problems
    except ValidationError as error:
        routes = [(one["loc"], one["msg"]) for one in error.errors(include_url=False)]
    else:
        routes = [(problem.route, problem.text) for problem in problems]
    lines = []
    for route, text in routes:
        key = next((str(part) for part in route if part in given), "")
        lines.append(f"{key}={given[key]}: {text}" if key else f"{dotted(route)}: {text}")
    if lines:
        raise BadInput("\n".join(dict.fromkeys(lines)))


def _node(cell_id: str, project: Project) -> str:
    """Return the node id of a cell.

    Raises:
        BadInput: no cell has that id.
    """
    found = make_plan(_specs(project), project.groups, project.environment)
    specs = {cell.id: cell.spec for cell in found.cells}
    specs |= {related.id: related.spec for related in found.relations}
    if cell_id in specs:
        return f"{specs[cell_id].source.path}::{cell_id}"
    message = f"--debug: no cell is called {cell_id}; tunematrix plan lists all"
    if close := nearest(cell_id, specs):
        message = "\n  ".join([f"{message}; did you mean one of these?", *close])
    raise BadInput(message)
