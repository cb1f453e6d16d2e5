"""The faults that a cell is run under: named by module or by file, entered one in the other."""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from tunematrix.configuration import Configuration
from tunematrix.errors import FaultBroken, did_you_mean

Fault = Callable[[Configuration], AbstractContextManager[object]]


@contextmanager
def enter_faults(names: Sequence[str], config: Configuration) -> Iterator[None]:
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
    spec = spec_from_file_location(f"tunematrix_fault_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not a Python file")
    module = module_from_spec(spec)
    # Before it runs: dataclasses look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lacks_fault(module: str, name: str) -> str:
    """Say that a module, or a file that ends in .py, defines no such fault; empty if it may.

    Its source is read and nothing is imported, which may take long. What can't be read that way
    is left for whoever imports it.
    """
    tree = _parsed(module)
    if tree is None:
        return ""
    faults = [one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    first = name.partition(".")[0]
    # A star imports names that the source doesn't show, and __getattr__ makes some up.
    if first in {*faults, *bound, *imported} or "*" in imported or "__getattr__" in faults:
        return ""
    public = [fault for fault in faults if not fault.startswith("_")]
    return f"there is no fault {name} in {module}; {did_you_mean(name, public)}"


def _parsed(module: str) -> ast.Module | None:
    """Return the syntax of a module, found without importing more than its parents."""
    if module.endswith(".py"):
        origin: str | None = module
    else:
        spec = find_spec(module)
        origin = None if spec is None else spec.origin
    if origin is None or not origin.endswith(".py"):
        return None
    try:
        return ast.parse(Path(origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def describe_error(error: BaseException, name: str) -> str:
    """Return what was raised, and the last line of that module or file that led to it."""
    module = name.rpartition(":")[0] or name
    file = Path(module).name if module.endswith(".py") else f"{module.rpartition('.')[2]}.py"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).name == file]
    line = f"line {own[-1]}: " if own else ""
    return f"{line}{type(error).__name__}: {error}"


@contextmanager
def _guarded(name: str, config: Configuration) -> Iterator[None]:
    """Tell what a fault raises itself from what the sabotaged stack raises."""
    try:
        context = _resolve(name)(config)
        context.__enter__()
    except BaseException as error:  # SystemExit too: the stack wasn't tried
        raise FaultBroken(name, "on its way in", describe_error(error, name)) from error
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what the stack raised counts
            context.__exit__(*sys.exc_info())
        raise
    try:
        context.__exit__(None, None, None)
    except BaseException as error:
        raise FaultBroken(name, "on its way out", describe_error(error, name)) from error


def _resolve(name: str) -> Fault:
    module, _, attribute = name.rpartition(":")
    fault: Fault = attrgetter(attribute)(load_module(module))
    return fault
