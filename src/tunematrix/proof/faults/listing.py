"""What a process of its own does: imports modules, and writes down the faults that are in them.

Run as `python -m tunematrix.proof.faults.listing OUT MODULE_OR_FILE...`; the driver never imports
them.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunematrix import faults
from tunematrix.entry_points import origin, points_in
from tunematrix.run.sabotage import describe_error, load_module

GROUP = "tunematrix.faults"
MARKS = ("fitted", "subtle")
"""What a fault may say of itself besides: see `Entry`."""
ALONE = "--alone"
"""Said first: nothing but the modules and files that follow."""
OTHER = "other"
"""The class of faults that don't name one."""


def main(out: str, *files: str) -> None:
    """Write every fault as one JSON object; a module that can't be imported as an `error`.

    Files come first, then what installed distributions add, then the catalogue. After `--alone`,
    nothing but the modules and files that follow it is listed.
    """
    alone = files[:1] == (ALONE,)
    if alone:
        files = files[1:]
    rows = [row for file in dict.fromkeys(files) for row in _rows(file)]
    points = {point.value.partition(":")[0]: point for point in points_in(GROUP) if not alone}
    rows += [row for name, point in points.items() for row in _rows(name, origin(point))]
    # The catalogue takes seconds to import.
    if not alone and not any("error" in row for row in rows):
        shipped = pkgutil.iter_modules(faults.__path__, f"{GROUP}.")
        rows += [row for module in shipped for row in _rows(module.name)]
    Path(out).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _rows(name: str, comes_with: str = "") -> Iterator[dict[str, Any]]:
    """Yield the faults of a module or file; `comes_with` is the distribution that adds it."""
    for row in _rows_of_module(name, is_foreign=bool(comes_with)):
        yield {**row, "origin": comes_with}


def _rows_of_module(name: str, is_foreign: bool) -> Iterator[dict[str, Any]]:
    try:
        module = load_module(name)
    except BaseException as error:  # noqa: BLE001 - whatever it is, its author has to know
        yield {"module": name, "error": describe_error(error, name)}
        return
    own = {
        attribute: value
        for attribute, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and callable(value)
    }
    public = {attribute: value for attribute, value in own.items() if attribute[0] != "_"}
    planted = {attribute: value for attribute, value in public.items() if _is_fault(value)}
    yield from (_row(name, attribute, value) for attribute, value in planted.items())
    if not planted and (is_foreign or name.endswith(".py")):
        why = "; ".join(f"{attribute} {_lacks(value)}" for attribute, value in public.items())
        text = "has no fault; write a context manager that takes the configuration"
        yield {"module": name, "error": f"{text} ({why})" if why else text}


def _row(module: str, name: str, fault: Any) -> dict[str, Any]:
    fault_class, seen_by = getattr(fault, "fault_class", OTHER), getattr(fault, "seen_by", ())
    marks = {mark: getattr(fault, mark, False) for mark in MARKS}
    wrong = ""
    if not isinstance(fault_class, str) or not fault_class:
        wrong = f"fault_class has to be a word, got {fault_class!r}"
    elif not isinstance(seen_by, tuple | list) or not all(
        isinstance(name, str) for name in seen_by
    ):
        wrong = f"seen_by has to be a tuple of ids, got {seen_by!r}"
    elif other := {mark: value for mark, value in marks.items() if not isinstance(value, bool)}:
        wrong = "; ".join(f"{mark} has to be True or False, got {other[mark]!r}" for mark in other)
    if wrong:
        line = inspect.getsourcelines(inspect.unwrap(fault))[1]
        return {"module": module, "error": f"line {line}: {name}: {wrong}"}
    return {
        "module": module,
        "name": name,
        "fault_class": fault_class,
        "seen_by": list(seen_by),
        **marks,
        "summary": (inspect.getdoc(fault) or "").partition("\n")[0],
    }


def _is_fault(value: Any) -> bool:
    """Whether it is a context manager of one argument."""
    manages = hasattr(value, "__enter__") if isinstance(value, type) else _is_generator(value)
    return (manages or hasattr(value, "fault_class")) and _takes_one(value)


def _is_generator(value: Any) -> bool:
    return inspect.isgeneratorfunction(getattr(value, "__wrapped__", None))


def _takes_one(value: Any) -> bool:
    parameters = inspect.signature(value).parameters.values()
    return sum(parameter.default is parameter.empty for parameter in parameters) == 1


def _lacks(value: Any) -> str:
    """Say why something public is not a fault."""
    if inspect.isasyncgenfunction(value) or inspect.iscoroutinefunction(value):
        return "is asynchronous"
    if inspect.isgeneratorfunction(value):
        return "lacks @contextlib.contextmanager"
    if not _takes_one(value):
        return "takes another number of arguments"
    return "is not a context manager"


if __name__ == "__main__":
    main(*sys.argv[1:])
