"""The process of a cell, and the one door to `stack/`: cell.json comes in, events go out.

A launcher may run the recipe in further processes, its ranks; each of them enters by `rank`.
"""

from __future__ import annotations

import faulthandler
import importlib.metadata
import io
import multiprocessing
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol, TypeAlias

from tunematrix.configuration import Configuration
from tunematrix.errors import FaultBroken, MeterBroken, RanksEnded, TunematrixError, Unavailable
from tunematrix.evidence.events import BrokenFault, BrokenMeter, Finished, Raised, Refused, Started
from tunematrix.evidence.lines import brief
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.run import ranks
from tunematrix.run.local.process_tree import follow_parent
from tunematrix.run.probing import probing
from tunematrix.run.sabotage import enter_faults

_DISTRIBUTIONS = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "hqq",
    "huggingface-hub",
    "mlx",
    "mlx-lm",
    "numpy",
    "optimum-quanto",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "torchao",
    "transformers",
    "trl",
    "tunematrix",
)
_THREAD_VARIABLES = (
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

LINES = 3
"""Of what an exception says; stderr.log has it whole."""

Group: TypeAlias = AbstractContextManager[object]
"""What connects a process with others while it is entered."""
ALONE: Group = nullcontext()


class Recipe(Protocol):
    """What `recipe.implementation` of a config must become when it is instantiated."""

    def __call__(self, config: Configuration, events: EventLog, output_dir: Path) -> object:
        """Does what the config says, writes down what it measures, saves below output_dir."""


class Launcher(Protocol):
    """What `launcher.implementation` of a config must become when it is instantiated."""

    def __call__(self, entry: Entry, run_dir: Path) -> None:
        """Calls `entry` in each process that it starts, and returns when all have ended well.

        Raises:
            RanksEnded: one ended otherwise; the rest have been ended.
        """


Entry = Callable[..., None]
"""`rank`, or something with its arguments."""


def main(run_dir: str) -> None:
    """Body of a cell's process; raises what the recipe raises, so that it exits with 1."""
    _enter_process()
    execute(RunDir(Path(run_dir)))


def call(run_dir: str, name: str, arguments: Mapping[str, object]) -> None:
    """Body of a process that does one preparation; raises what the function raises."""
    _enter_process()
    prepare(name, arguments, RunDir(Path(run_dir)))


def prepare(name: str, arguments: Mapping[str, object], run_dir: RunDir) -> None:
    """Calls the function `module:function`; what it raises is written down and goes on.

    Args:
        name: of the function.
        arguments: its own; a `cache_dir` among them lies relative to the folder.
        run_dir: the folder.
    """
    own = dict(arguments)
    if isinstance(cache := own.get("cache_dir"), str):
        own["cache_dir"] = str((run_dir.path / cache).resolve())
    with EventLog(run_dir.events) as events:
        try:
            resolve_name(name)(**own)
        except BaseException as error:
            _write_down(error, events)
            raise
        events.write(Finished())


def execute(run_dir: RunDir) -> None:
    """Runs a cell in the processes that its launcher starts, or here if it starts none."""
    cell = run_dir.read_cell()
    run_dir.events.unlink(missing_ok=True)
    launcher = cell.config.launcher.implementation
    if not launcher:
        perform(run_dir, run_dir.events)
    else:
        _launch(launcher, run_dir)


def perform(run_dir: RunDir, events_file: Path, group: Group = ALONE) -> None:
    """Runs the recipe of a cell under its faults; what it raises is written down and goes on.

    Args:
        run_dir: of the cell.
        events_file: where this process writes.
        group: entered first; what connects this process with others.
    """
    cell = run_dir.read_cell()
    with EventLog(events_file) as events:
        events.write(Started(os.getpid(), _determinants(), _versions()))
        try:
            with group:
                _run_recipe(cell, run_dir, events)
        except BaseException as error:
            _write_down(error, events)
            raise
        events.write(Finished())


def rank(run_dir: str, number: int = 0, group: Group = ALONE) -> None:
    """Body of one of the processes that a launcher starts; raises what the recipe raises."""
    _stand_firm()
    ranks.follow_launcher()
    ranks.dump_when_terminated()
    cell = RunDir(Path(run_dir))
    own = cell.rank(number)
    own.path.mkdir(exist_ok=True)
    try:
        perform(cell, own.events if number else cell.events, group)
    except Exception as error:
        ranks.let_the_culprit_go_first(_class_names(error), str(error))
        raise


def _launch(implementation: Mapping[str, Any], run_dir: RunDir) -> None:
    from hydra.utils import instantiate

    try:
        launcher: Launcher = instantiate(implementation, _convert_="all")
        with ranks.dumps_passed_on():
            launcher(rank, run_dir.path)
        ranks.collect(run_dir)
    except BaseException as error:
        with EventLog(run_dir.events) as events:
            if isinstance(error, RanksEnded):
                for event in ranks.blame(run_dir, error):
                    events.write(event)
            else:
                _write_down(error, events)
        raise


def _run_recipe(cell: CellFile, run_dir: RunDir, events: EventLog) -> None:
    # The driver imports this module too, and has to collect where Hydra's imports would cost time.
    from hydra.utils import instantiate

    config = cell.config
    here = {"cache_dir": str((run_dir.path / config.cache_dir).resolve())}
    if config.references and not cell.faults:
        here["references"] = str((run_dir.path / config.references).resolve())
    else:  # what a fault reaches is nobody else's reference
        here["references"] = ""
    config = config.model_copy(update=here)
    launcher = config.launcher
    if not launcher.implementation and launcher.processes != 1:
        raise ValueError(
            f"launcher.processes={launcher.processes} has no effect under {launcher.name}, which "
            "starts none; use ddp or fsdp"
        )
    with _watched(config, run_dir), enter_faults(cell.faults, config):
        recipe: Recipe = instantiate(config.recipe.implementation, _convert_="all")
        recipe(config, events, run_dir.output)


def _watched(config: Configuration, run_dir: RunDir) -> AbstractContextManager[object]:
    """Return what has this process probed meanwhile, where that is asked for."""
    return nullcontext() if config.watch is None else probing(run_dir.path)


def _enter_process() -> None:
    """Makes this process stand alone: own session, dumps on SIGUSR1, gone with its parent."""
    os.setsid()
    follow_parent()
    _stand_firm()


def _stand_firm() -> None:
    """Lets nothing that the process says be lost, and has it say where it hangs on SIGUSR1."""
    # Recipes that start processes get the platform's default, not the way we were started.
    multiprocessing.set_start_method(None, force=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A crash must not take the last lines along, nor a character end the cell.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def _determinants() -> dict[str, str | int | list[str] | None]:
    variables = ("PYTHONHASHSEED", *_THREAD_VARIABLES)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "inherited": [name for name in _DISTRIBUTIONS if _is_inherited(name)],
        **{name: os.environ.get(name) for name in variables},
    }


def _is_inherited(name: str) -> bool:
    """Whether a distribution lies outside this virtualenv, among the machine's own packages."""
    try:
        place = Path(str(importlib.metadata.distribution(name).locate_file("")))
    except importlib.metadata.PackageNotFoundError:
        return False
    return not place.resolve().is_relative_to(Path(sys.prefix).resolve())


def _versions() -> dict[str, str]:
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _write_down(error: BaseException, events: EventLog) -> None:
    """Writes what was raised, and before it what of that others have to act on."""
    if isinstance(error, Unavailable):
        events.write(Refused(error.obstacle))
    if isinstance(error, FaultBroken):
        events.write(BrokenFault(error.name, error.when))
    if isinstance(error, MeterBroken):
        events.write(BrokenMeter(error.name, str(error)))
    events.write(Raised(events.current_phase, _class_names(error), _message(error)))


def _message(error: BaseException) -> str:
    """What it says, and what it was raised from: Hydra names the target, its cause the reason.

    Libraries give advice by the dozen of lines; what is our own is said as it is.
    """
    cause = error.__cause__
    if isinstance(error, TunematrixError | FaultBroken | MeterBroken):
        return str(error)
    said = brief(str(error), LINES)
    return said if cause is None else f"{said} ({type(cause).__name__}: {brief(str(cause), LINES)})"


def _class_names(error: BaseException) -> tuple[str, ...]:
    """Names of its classes, most specific first; those of built-in ones without a module."""
    kinds = type(error).__mro__[:-1]
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return tuple(name.removeprefix("builtins.") for name in names)


if __name__ == "__main__":
    # By its name, since a launcher's processes find `rank` in no other module.
    resolve_name("tunematrix.run.worker:execute")(RunDir(Path(sys.argv[1])))
