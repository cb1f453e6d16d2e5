"""What a process of its own does: imports modules, and writes down the faults that are in them.

Run as `python -m tunematrix.power.listing OUT MODULE_OR_FILE...`; the driver never imports them.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tunematrix import faults
from tunematrix.run.sabotage import load_module

GROUP = "tunematrix.faults"
OTHER = "other"
"""The class of faults that don't name one."""


def main(out: str, *files: str) -> None:
    """Write every fault as one JSON object; a module that can't be imported as an `error`."""
    names = [*files, *(point.value.partition(":")[0] for point in entry_points(group=GROUP))]
    names += [found.name for found in pkgutil.iter_modules(faults.__path__, f"{GROUP}.")]
    rows = [row for name in dict.fromkeys(names) for row in _rows(name)]
    Path(out).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _rows(name: str) -> Iterator[dict[str, Any]]:
    try:
        module = load_module(name)
    except BaseException as error:  # noqa: BLE001 - whatever it is, its author has to know
        yield {"module": name, "error": _told(error, name)}
        return
    for attribute, fault in vars(module).items():
        if not attribute.startswith("_") and _is_fault(fault, module):
            yield {
                "module": name,
                "name": attribute,
                "fault_class": getattr(fault, "fault_class", OTHER),
                "seen_by": list(getattr(fault, "seen_by", ())),
                "summary": (inspect.getdoc(fault) or "").partition("\n")[0],
            }


def _is_fault(value: Any, module: ModuleType) -> bool:
    """Whether it was made in the module, and is a context manager of one argument."""
    if getattr(value, "__module__", None) != module.__name__ or not callable(value):
        return False
    manages = hasattr(value, "__enter__") if isinstance(value, type) else _is_generator(value)
    return (manages or hasattr(value, "fault_class")) and _takes_one(value)


def _is_generator(value: Any) -> bool:
    return inspect.isgeneratorfunction(getattr(value, "__wrapped__", None))


def _takes_one(value: Any) -> bool:
    parameters = inspect.signature(value).parameters.values()
    needed = [one for one in parameters if one.default is inspect.Parameter.empty]
    return len(needed) == 1


def _told(error: BaseException, name: str) -> str:
    """Return what was raised, and the last line of that module that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).name == Path(name).name]
    line = f"line {own[-1]}: " if own else ""
    return f"{line}{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(*sys.argv[1:])
