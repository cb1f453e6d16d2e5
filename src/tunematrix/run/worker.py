"""The process of a cell, and the one door to `stack/`: cell.json comes in, events go out."""

from __future__ import annotations

import faulthandler
import importlib.metadata
import io
import multiprocessing
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from tunematrix.evidence import Exit
from tunematrix.evidence.events import Finished, Raised, Started
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.run.process_tree import follow_parent

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


class Recipe(Protocol):
    """What `recipe.implementation` of a config must become when it is instantiated."""

    def __call__(self, config: Mapping[str, Any], events: EventLog, output_dir: Path) -> object:
        """Does what the config says, writes down what it measures, saves below output_dir."""


def main(run_dir: str) -> None:
    """Body of a cell's process; raises what the recipe raises, so that it exits with 1."""
    _enter_process()
    execute(RunDir(Path(run_dir)))


def call(name: str, arguments: Mapping[str, object]) -> None:
    """Body of a process that does one preparation: calls the function `module:function`."""
    _enter_process()
    resolve_name(name)(**arguments)


def run_foreground(run_dir: RunDir) -> Exit:
    """Runs a cell in this process, for breakpoints: nothing redirected, no time limit."""
    started = time.perf_counter()
    code = 0
    try:
        execute(run_dir)
    except Exception:  # noqa: BLE001 - whatever a recipe raises is the result of the cell
        traceback.print_exc()
        code = 1
    seconds = time.perf_counter() - started
    return Exit(code, None, False, (), seconds, isolation="foreground")


def execute(run_dir: RunDir) -> None:
    """Runs the recipe of a cell under its faults; what it raises is written down and goes on."""
    cell = run_dir.read_cell()
    run_dir.events.unlink(missing_ok=True)
    with EventLog(run_dir.events) as events:
        events.write(Started(os.getpid(), _determinants(), _versions()))
        try:
            _run_recipe(cell, events)
        except BaseException as error:
            events.write(Raised(events.current_phase, _class_names(error), _message(error)))
            raise
        events.write(Finished())


def _run_recipe(cell: CellFile, events: EventLog) -> None:
    # The driver imports this module too, and has to collect where Hydra's imports would cost time.
    from hydra.utils import instantiate

    with ExitStack() as faults:
        for name in cell.faults:
            faults.enter_context(resolve_name(name)(cell.config))
        recipe: Recipe = instantiate(cell.config["recipe"]["implementation"], _convert_="all")
        recipe(cell.config, events, Path(cell.output_dir))


def _enter_process() -> None:
    """Makes this process stand alone: own session, dumps on SIGUSR1, gone with its parent."""
    os.setsid()
    follow_parent()
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


def _message(error: BaseException) -> str:
    """What it says, and what it was raised from: Hydra names the target, its cause the reason."""
    cause = error.__cause__
    return str(error) if cause is None else f"{error} ({type(cause).__name__}: {cause})"


def _class_names(error: BaseException) -> tuple[str, ...]:
    """Names of its classes, most specific first; those of built-in ones without a module."""
    kinds = type(error).__mro__[:-1]
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return tuple(name.removeprefix("builtins.") for name in names)


if __name__ == "__main__":
    execute(RunDir(Path(sys.argv[1])))
