"""The project's command lines, each called once as a real process, briefly, and judged."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path

from tunematrix.inspection.brief import HYDRAS_OWN, OUTPUT, make_brief
from tunematrix.inspection.calls import TRACEBACK, Ending, blame, call, project_files
from tunematrix.inspection.examine import compose_config, examine
from tunematrix.inspection.settings import (
    RunnerSettings,
    ScriptSettings,
    project_scripts,
    runner_settings,
    toml_line,
)
from tunematrix.inspection.source import HydraMain, ProjectSource, read_source
from tunematrix.paths import made, shown
from tunematrix.spec.problems import Problem

LAST_LINES = 12
_PARSERS = re.compile(
    rb"argparse|click|typer|fire|docopt|tyro|jsonargparse|HfArgumentParser|absl|optparse"
)
_CALL = (
    "import sys; from pkgutil import resolve_name; name = sys.argv.pop(1); "
    "sys.argv[0] = sys.argv.pop(1); sys.exit(resolve_name(name)())"
)
_IMPORT = (
    "import sys; from pkgutil import resolve_name; found = resolve_name(sys.argv[1]); "
    "sys.exit(0 if callable(found) else sys.argv[1] + ' is not a function')"
)


@dataclass(frozen=True)
class Runner:
    """One entry of `[project.scripts]`.

    Attributes:
        name: of the script. target: its `module:function`.
        root: the project. line: of the entry in pyproject.toml.
        main: the function under `@hydra.main` that it comes to; None for another kind of script.
        module: the file that it stands in; None where the project has no such file.
        settings: of all scripts. own: of this one.
    """

    name: str
    target: str
    root: Path
    line: int
    main: HydraMain | None
    module: Path | None
    settings: RunnerSettings
    own: ScriptSettings

    @property
    def timeout(self) -> int:
        """Seconds that it may take."""
        return self.own.timeout or self.settings.timeout


@dataclass(frozen=True)
class RunnerReport:
    """How one script ended.

    Attributes:
        runner: the script. command: how it was called. folder: with its logs and its output.
        problems: what is wrong; the first has the file and line to begin with.
        seconds: that it took.
    """

    runner: Runner
    command: tuple[str, ...]
    folder: Path
    problems: tuple[Problem, ...]
    last_words: str
    seconds: float

    def __str__(self) -> str:
        """All of it, as a failure shows it."""
        lines = [str(problem) for problem in self.problems]
        lines += [f"called: {' '.join(self.command)}", f"logs and output: {shown(self.folder)}"]
        lines += ["the end of stderr:", self.last_words] if self.last_words else []
        return "\n".join(lines)


def find_runners(root: Path) -> tuple[Runner, ...]:
    """Return the scripts of a project, without those that it excludes.

    Raises:
        BadInput: pyproject.toml is wrong.
    """
    scripts, settings = project_scripts(root), runner_settings(root)
    file = root / "pyproject.toml"
    source = read_source(root) if scripts else ProjectSource()
    return tuple(
        Runner(
            name,
            target,
            root,
            toml_line(file, ("project", "scripts", name)),
            _main_of(target, root, source),
            _module_file(target, root),
            settings,
            settings.scripts.get(name, ScriptSettings()),
        )
        for name, target in scripts.items()
        if name not in settings.exclude
    )


def run_runner(runner: Runner, folder: Path) -> RunnerReport:
    """Call a script once, briefly, and judge it.

    Args:
        runner: the script.
        folder: what it writes goes here; what is there from an earlier run is removed.

    Raises:
        BadInput, MachineProblem: its config can't be looked at, or no process can be started.
    """
    shutil.rmtree(folder, ignore_errors=True)
    made(folder)
    output = folder / "output"
    arguments, experiment = _arguments(runner)
    command = _command(runner, tuple(a.replace(OUTPUT, str(output)) for a in arguments or ()),
                       called=arguments is not None)  # fmt: skip
    before = project_files(runner.root)
    named = runner.settings.variables
    variables = {key: value.replace(OUTPUT, str(output)) for key, value in named.items()}
    ending = call(command, runner.root, folder, output, variables, runner.timeout)
    stderr = (folder / "stderr.log").read_text(encoding="utf-8", errors="replace")
    problems = list(_ending_problems(runner, ending, stderr))
    if not problems and experiment:
        problems += _output_problems(runner, Path(experiment.replace(OUTPUT, str(output))))
    problems += _stray_problems(runner, before, folder)
    if problems and runner.main is not None:
        # What a config is to blame for has its own file and line there.
        problems = [*_config_problems(runner.main), *problems]
    words = "\n".join(stderr.strip().splitlines()[-LAST_LINES:]) if problems else ""
    return RunnerReport(runner, command, folder, tuple(problems), words, ending.seconds)


def _main_of(target: str, root: Path, source: ProjectSource) -> HydraMain | None:
    """Return the function under `@hydra.main` that a script is, or that its function calls."""
    function = target.partition(":")[2]
    file = _module_file(target, root)
    mains = [main for main in source.mains if main.file == file]
    if own := next((main for main in mains if main.function == function.strip()), None):
        return own
    text = file.read_text(encoding="utf-8", errors="replace") if file and mains else ""
    body = re.search(rf"^def {re.escape(function.strip())}\(.*?(?=^\S|\Z)", text, re.M | re.S)
    called = (main for main in mains if body and re.search(rf"\b{main.function}\(", body[0]))
    return next(called, None)


def _module_file(target: str, root: Path) -> Path | None:
    parts = target.partition(":")[0].strip().split(".")
    for top in (root / "src", root):
        base = top.joinpath(*parts)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def _arguments(runner: Runner) -> tuple[tuple[str, ...] | None, str]:
    """Return the arguments of a script, and the folder it must make; None: import it alone."""
    own = runner.own
    if own.arguments is not None:
        output = own.output if own.output is not None else ""
        return own.arguments, _below(output)
    if runner.main is None:
        content = runner.module.read_bytes() if runner.module else b""
        return (("--help",) if _PARSERS.search(content) else None), _below(own.output or "")
    if runner.settings.overrides is not None:
        given = (*runner.settings.overrides, HYDRAS_OWN)
        return given, _below(own.output if own.output is not None else "hydra")
    file = _config_file(runner.main)
    composed = compose_config(file) if file else None
    brief = (
        make_brief(composed.values, composed.followers) if composed else make_brief({}, frozenset())
    )
    experiment = brief.experiment if own.output is None else _below(own.output)
    return brief.overrides, experiment


def _below(output: str) -> str:
    if not output or output.startswith(OUTPUT):
        return output
    return f"{OUTPUT}/{output}"


def _config_file(main: HydraMain) -> Path | None:
    if main.folder is None or main.config is None:
        return None
    file = main.folder / f"{main.config.removesuffix('.yaml')}.yaml"
    return file if file.is_file() else None


def _command(runner: Runner, arguments: Sequence[str], *, called: bool) -> tuple[str, ...]:
    """Return how to call a script: by its installed command, or as that would do it."""
    if not called:
        return (sys.executable, "-c", _IMPORT, runner.target)
    installed = Path(sys.executable).parent / runner.name
    known = entry_points(group="console_scripts", name=runner.name)
    if installed.is_file() and any(point.value == runner.target for point in known):
        return (str(installed), *arguments)
    return (sys.executable, "-c", _CALL, runner.target, runner.name, *arguments)


def _ending_problems(runner: Runner, ending: Ending, stderr: str) -> Iterator[Problem]:
    file, line = runner.root / "pyproject.toml", runner.line
    route = ("project", "scripts", runner.name)
    if ending.timed_out:
        text = (
            f"was still running after {runner.timeout} s and was ended; raise timeout if it is slow"
        )
        yield Problem(file, line, route, text)
        return
    has_traceback = any(row.strip() == TRACEBACK for row in stderr.splitlines())
    if ending.code != 0 or has_traceback:
        raised, place = blame(stderr, runner.root)
        said = raised or next(
            (row for row in reversed(stderr.strip().splitlines()) if row.strip()), ""
        )
        how = (
            f"ended with exit code {ending.code}"
            if ending.code
            else "printed a traceback on stderr"
        )
        blamed, at = place or (file, line)
        yield Problem(
            blamed, at, route, f"{runner.name} = {runner.target} {how}: {said or 'it said nothing'}"
        )
    if ending.left:
        text = f"left running (ended now): {', '.join(ending.left)}; close what it starts"
        yield Problem(file, line, route, text)


def _output_problems(runner: Runner, experiment: Path) -> Iterator[Problem]:
    if any(path.is_file() for path in experiment.rglob("*")):
        return
    state = "made it, but left it empty" if experiment.is_dir() else "never made it"
    text = f"its experiment folder is {shown(experiment)}, and the run {state}"
    text += "; write there, or set output"
    route = ("project", "scripts", runner.name)
    yield Problem(runner.root / "pyproject.toml", runner.line, route, text)


def _stray_problems(runner: Runner, before: Set[str], folder: Path) -> Iterator[Problem]:
    strays = [
        name
        for name in sorted(project_files(runner.root) - before)
        if not (runner.root / name).is_relative_to(folder)
        and not any(fnmatch(name, pattern) for pattern in runner.settings.may_write)
    ]
    if strays:
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        text = (
            f"wrote {', '.join(strays[:3])}{more} in the project, outside of the run's folder; set "
            "the key that names this place in tool.tunematrix.runners, or list it in may_write"
        )
        route = ("project", "scripts", runner.name)
        yield Problem(runner.root / "pyproject.toml", runner.line, route, text)


def _config_problems(main: HydraMain) -> tuple[Problem, ...]:
    """Return what is wrong with the config of a script that has failed."""
    if main.folder is not None and not main.folder.is_dir():
        text = f"there is no config folder {main.folder}; correct config_path"
        return (Problem(main.file, main.line, ("@hydra.main",), text),)
    is_package = (main.file.parent / "__init__.py").is_file()
    if main.folder and is_package and not (main.folder / "__init__.py").is_file():
        text = f"{shown(main.folder)} has no __init__.py, and Hydra looks for a package; add it"
        return (Problem(main.file, main.line, ("@hydra.main",), text),)
    file = _config_file(main)
    if file is None:
        if main.folder is None or main.config is None:
            return ()
        text = f"there is no config {main.config} in {shown(main.folder)}; correct config_name"
        return (Problem(main.file, main.line, ("@hydra.main",), text),)
    return tuple(p for report in examine([file]) for p in report.problems)
