"""Verbs of the suite: what would run, and running it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from tunematrix.cli.app import AxisOption, EnvironmentOption, JsonOption, app, place
from tunematrix.errors import BadInput, NothingTested, did_you_mean
from tunematrix.harness import Setting, read_setting
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import adhoc_specs
from tunematrix.spec.loader import json_schema, load_specs


@app.command()
def plan(
    specs: Annotated[list[Path] | None, typer.Argument(help="Spec files or folders.")] = None,
    environment: EnvironmentOption = "cpu",
    axis: AxisOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the cells that would run in an environment, and what is declared unsupported."""
    setting = read_setting(Path.cwd(), environment)
    selection = parse_selection(axis or (), setting.groups)
    loaded = load_specs(specs or setting.spec_folders)
    found = make_plan(loaded, setting.groups, setting.environment, selection)
    if not found.cells and not found.exclusions:
        message = "no cell matches: loosen --axis, or name other specs"
        raise NothingTested(message)
    print(json.dumps(found.to_json(), indent=2) if as_json else _as_text(found))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    environment: EnvironmentOption = "cpu",
    axis: AxisOption = None,
    words: Annotated[str, typer.Option("-k", help="Only cells with these words in the name.")] = "",
    markers: Annotated[str, typer.Option("-m", help="Only cells so marked: smoke, probe.")] = "",
    debug: Annotated[
        str, typer.Option(metavar="CELL", help="Run one cell in this process: breakpoints work.")
    ] = "",
) -> None:
    """Run the suite, or one cell written as overrides: method=lora train.max_steps=20.

    Everything else goes to pytest: -n, -x, --fault, node ids, paths.
    """
    setting = read_setting(Path.cwd(), environment)
    overrides = [a for a in context.args if "=" in a and not a.startswith("-") and "::" not in a]
    others = [argument for argument in context.args if argument not in overrides]
    arguments = ["-v", f"--environment={environment}", place(setting), *others]
    arguments += [f"--axis={one}" for one in axis or ()]
    arguments += [f"-k={words}"] if words else []
    arguments += [f"-m={markers}"] if markers else []
    if overrides:
        arguments.append(str(_ad_hoc(overrides, setting)))
    elif debug:
        arguments += ["-s", "--isolation=foreground", _node(debug, setting)]
    elif not any(Path(other.partition("::")[0]).exists() for other in others):
        arguments += [str(folder) for folder in setting.spec_folders]
    # pytest is the one driver. As a module, so that forked cells don't import it.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


@app.command()
def schema() -> None:
    """Print the JSON schema of a spec, for editors that check YAML."""
    print(json.dumps(json_schema(), indent=2))


def _as_text(found: Plan) -> str:
    lines = [cell.id for cell in found.cells]
    lines += [
        f"{one.id}  = {', '.join(arm.cell.id for arm in one.arms)}" for one in found.relations
    ]
    lines += [f"{one.cell.id}  unsupported: {one.reason}" for one in found.exclusions]
    total = f"{len(found.cells)} cells, {len(found.exclusions)} exclusions"
    total += f", {len(found.relations)} relations" if found.relations else ""
    return "\n".join([*lines, "", f"{total} in {found.environment.name}"])


def _ad_hoc(overrides: list[str], setting: Setting) -> Path:
    """Write a spec for one cell given as overrides; pytest runs it like any other."""
    pairs = [override.partition("=") for override in overrides]
    axes = {key: value for key, _, value in pairs if key in setting.groups.axes}
    settings = {key: yaml.safe_load(value) for key, _, value in pairs if key not in axes}
    if "model" in axes and Path(axes["model"]).expanduser().is_dir():
        axes["model"] = str(Path(axes["model"]).expanduser().resolve())
    name = "adhoc-" + hashlib.sha256(" ".join(sorted(overrides)).encode()).hexdigest()[:8]
    spec = {
        "test_id": name,
        "description": " ".join(overrides),
        "recipe": axes.pop("recipe", "sft"),
        "matrix": {axis: [option] for axis, option in axes.items()},
        "overrides": settings,
    }
    path = adhoc_specs(setting.root) / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def _node(cell_id: str, setting: Setting) -> str:
    """Find the node id of a cell."""
    found = make_plan(load_specs(setting.spec_folders), setting.groups, setting.environment)
    specs = {cell.id: cell.spec for cell in found.cells}
    specs |= {related.id: related.spec for related in found.relations}
    if cell_id in specs:
        return f"{specs[cell_id].source.path}::{cell_id}"
    advice = did_you_mean(cell_id, specs)
    message = f"no cell is called {cell_id}; {advice} tunematrix plan lists all"
    raise BadInput(message)
