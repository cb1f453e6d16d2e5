"""The faults that a cell is run under: named by module or by file, entered one in the other."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from tunematrix.errors import FaultBroken

Fault = Callable[[Mapping[str, Any]], AbstractContextManager[object]]


@contextmanager
def entered(names: Sequence[str], config: Mapping[str, Any]) -> Iterator[None]:
    """Enter faults, given as `module:name` or `file.py:name`.

    Raises:
        FaultBroken: one of them can't be found, or raises itself.
    """
    with ExitStack() as faults:
        for name in names:
            faults.enter_context(_guarded(name, config))
        yield


def load_module(name: str) -> ModuleType:
    """Import a module by its name, or by its file: a path that ends in .py."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    found = spec_from_file_location(f"tunematrix_fault_file_{path.stem}", path)
    if found is None or found.loader is None:
        raise ImportError(f"{name} is no Python file")
    module = module_from_spec(found)
    # Before it runs: dataclasses look themselves up there.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def told(error: BaseException, name: str) -> str:
    """Return what was raised, and the last line of that module or file that led to it."""
    module = name.rpartition(":")[0] or name
    file = Path(module).name if module.endswith(".py") else f"{module.rpartition('.')[2]}.py"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).name == file]
    line = f"line {own[-1]}: " if own else ""
    return f"{line}{type(error).__name__}: {error}"


@contextmanager
def _guarded(name: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Tell what a fault raises itself from what the sabotaged stack raises."""
    try:
        context = _resolve(name)(config)
        context.__enter__()
    except BaseException as error:  # SystemExit too: the stack wasn't tried
        raise FaultBroken(name, "on its way in", told(error, name)) from error
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what the stack raised counts
            context.__exit__(*sys.exc_info())
        raise
    try:
        context.__exit__(None, None, None)
    except BaseException as error:
        raise FaultBroken(name, "on its way out", told(error, name)) from error


def _resolve(name: str) -> Fault:
    module, _, attribute = name.rpartition(":")
    fault: Fault = _of(load_module(module), attribute)
    return fault


def _of(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner
