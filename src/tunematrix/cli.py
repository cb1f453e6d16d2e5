"""The command line: verbs only; each hands over to the rooms that do the work."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from tunematrix.doctor.examine import examine
from tunematrix.doctor.trials import Laboratory
from tunematrix.environments.table import find_environment, read_environments
from tunematrix.errors import BadInput, ExitCode, NothingTested, TunematrixError, did_you_mean
from tunematrix.harness import Setting, config_roots, pytest_settings, read_setting
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import adhoc_specs, project_root, shipped_configs, shown, state
from tunematrix.power.catalogue import CATALOGUE, SCORE, cells_at_once
from tunematrix.power.catalogue import FOLDER as FAULTS_FOLDER
from tunematrix.power.catalogue import discover as list_faults
from tunematrix.regressions.run import Bench, exit_code, to_json, try_out, write
from tunematrix.regressions.table import read_regressions
from tunematrix.report import doctor as diagnosis
from tunematrix.report import regressions as past
from tunematrix.report import terminal, verified
from tunematrix.results.record import Record
from tunematrix.results.store import Store, keep, newest_run
from tunematrix.results.tolerances import (
    tabulate_all,
    write_tolerances,
)
from tunematrix.spec.loader import json_schema, load_specs

app = typer.Typer(
    help="Prove that a fine-tuning stack works on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

TYPERS_USAGE_ERROR = 2

EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="Whose cells.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
AxisOption = Annotated[
    list[str] | None, typer.Option("--axis", help="AXIS=OPTION; only cells with this option.")
]


def main() -> None:
    """Run a verb; an error that the user can act on ends it without a traceback."""
    try:
        app()
    except TunematrixError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # Which means interrupted where pytest is the driver.
        sys.exit(ExitCode.BAD_INPUT if end.code == TYPERS_USAGE_ERROR else end.code)


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
    arguments = ["-v", f"--environment={environment}", _place(setting), *others]
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
def report(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of records.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write where they come from into it.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep them in a file there.")
    ] = None,
) -> None:
    """Show records again: those of the newest run, or all that some files hold."""
    setting = read_setting(Path.cwd(), environment)
    if markdown is not None and not files:
        message = "--markdown takes committed records: name their files"
        raise BadInput(message)
    records = _records(files, setting)
    if save is not None:
        print(f"{len(records)} records are in {keep(records, save)}")
    elif markdown is not None:
        table = verified.as_markdown(setting.described, verified.verified_runs(records))
        markdown.write_text(verified.placed(table, markdown.read_text("utf-8")), "utf-8")
    elif as_json:
        print(json.dumps([record.to_json() for record in records], indent=2))
    else:
        Console().print(terminal.summary(records))


@app.command()
def doctor(
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="Look at it alone; all of it must work.")
    ] = "",
    axis: AxisOption = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that each trial may take.")] = 120,
    as_json: JsonOption = False,
) -> None:
    """Find out what this machine can do, and why it can't do the rest.

    Looks at environments, backends and quantizers, and tries what is installed in real, small
    runs. Without --environment it ends with 0 whatever it finds.
    """
    root = project_root(Path.cwd())
    roots = config_roots(root, pytest_settings(root))
    environments = read_environments(root, roots)
    wanted = find_environment(environment, environments) if environment else None
    laboratory = Laboratory(root, read_groups(roots), timeout, _show_progress)
    selection = parse_selection(axis or (), laboratory.groups)
    found = examine(laboratory, environments, wanted, selection)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        Console().print(diagnosis.tables(found))
    sys.exit(ExitCode.FAILED if found.problems else ExitCode.PASSED)


@app.command()
def regressions(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows; all if none is named.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Run the suite against releases that had real faults, and against those that mended them."""
    setting = read_setting(Path.cwd(), environment)
    found = read_regressions(setting.groups, setting.environment, rows or ())
    say = partial(print, file=sys.stderr, flush=True)
    findings = try_out(found, Bench(setting.root, environment, (_place(setting),), say))
    write(findings, setting.root)
    if as_json:
        print(json.dumps(to_json(findings), indent=2))
    else:
        Console().print(past.tables(findings))
    sys.exit(exit_code(findings))


@app.command()
def tolerances(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of records.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write down what honest runs differ by, from relations that were run under 20 seeds or more.

    Run them first: nox -s cpu -- -m relation --seeds 20.
    """
    setting = read_setting(Path.cwd(), environment)
    records = _records(files, setting)
    folder, root = setting.groups.roots[-1].resolve(), setting.root.resolve()
    is_shipped = folder == shipped_configs().resolve() != root / "configs"
    if is_shipped or not folder.is_relative_to(root):
        message = "the project has no config folder of its own; name one in tunematrix_configs"
        raise BadInput(message)
    tables = tabulate_all(records, folder)
    for table in tables:
        path = write_tolerances(table, folder, environment)
        if not as_json:
            print(f"{len(table.spread)} relations are in {shown(path)}")
    if as_json:
        print(json.dumps([table.model_dump(mode="json") for table in tables], indent=2))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def faults(
    context: typer.Context,
    module: Annotated[
        list[Path] | None, typer.Option("--module", help="A Python file with faults of your own.")
    ] = None,
    environment: EnvironmentOption = "cpu",
    workers: Annotated[
        int, typer.Option("-n", help="How many faults to try at once; 0: what this machine takes.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Try every fault of the catalogue, and say which check notices it and what slips through.

    Everything else goes to pytest: -k NAME_OR_CLASS, -x. The score is in .tunematrix/faults.json.
    """
    setting = read_setting(Path.cwd(), environment)
    folder = state(setting.root)
    list_faults(module or (), folder / FAULTS_FOLDER / CATALOGUE)
    arguments = ["-v", f"--environment={environment}", _place(setting), *context.args]
    arguments += ["-p", "tunematrix.power.plugin", str(folder / FAULTS_FOLDER / CATALOGUE)]
    if (at_once := workers or cells_at_once()) > 1:
        arguments += ["-n", str(at_once), "--maxschedchunk=1"]
    command = [sys.executable, "-m", "pytest", *arguments]
    if not as_json:
        os.execv(sys.executable, command)
    end = subprocess.run(command, stdout=sys.stderr, check=False)
    if (score := folder / SCORE).is_file():
        print(score.read_text(encoding="utf-8"), end="")
    sys.exit(end.returncode)


@app.command()
def schema() -> None:
    """Print the JSON schema of a spec, for editors that check YAML."""
    print(json.dumps(json_schema(), indent=2))


def _records(files: Sequence[Path] | None, setting: Setting) -> list[Record]:
    """Read the records of the newest run, or all that some files hold."""
    if absent := [str(file) for file in files or () if not file.is_file()]:
        message = f"there is no file {', '.join(absent)}; give files of records"
        raise BadInput(message)
    stores = [Store(file) for file in files or [setting.folder / "results.jsonl"]]
    records = [record for store in stores for record in store.read()]
    if not records:
        message = f"{stores[0].path} has no record yet; run nox -s {setting.environment.name}"
        raise NothingTested(message)
    return records if files else list(newest_run(records))


def _place(setting: Setting) -> str:
    """Tell pytest which project this is: it would go by where the specs lie."""
    if pytest_settings(setting.root):
        return f"--config-file={setting.root / 'pyproject.toml'}"
    return f"--rootdir={setting.root}"


def _show_progress(line: str) -> None:
    """Tell someone who waits what is being done; a log, or a program, isn't told."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


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
