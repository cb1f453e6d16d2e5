"""Whose error an exception is: the stack's, or that of one of our own meters.

Meters sit in hooks, deep inside a trainer, so the frames that an exception came through tell it: a
meter is to blame if its code, or a helper that it calls directly, was at work when it was raised.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from tunematrix.errors import MeterBroken, TunematrixError

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).resolve().parents[2]
REFUSALS = (RuntimeError, TypeError, ValueError)
"""What a layer raises when a tensor has another dtype or shape than it can compute with."""
METERS = {"meters", "yardsticks"}
"""Folders in which all of them are."""


def passing(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call for a meter what is the stack's: what that raises is the stack's error."""
    return call(*args, **kwargs)


def accepted(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Call a layer of the stack's with what it must take; return None where it refuses it.

    That a layer can't compute in the dtype that it should is a figure for a check to judge.
    """
    try:
        return call(*args, **kwargs)
    except REFUSALS as error:
        print(f"a layer refused what it must take: {error}", file=sys.stderr)
        return None


@contextmanager
def owning_up() -> Iterator[None]:
    """Name the meter where one raises meanwhile; what the stack raises goes on as it is.

    Raises:
        MeterBroken: a meter raised.
    """
    try:
        yield
    except TunematrixError:
        raise
    except Exception as error:
        if (meter := meter_of(error.__traceback__)) is None:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).partition("\n")[0]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise MeterBroken(meter, f"{type(error).__name__}: {said} ({where})") from error


def meter_of(tracks: TracebackType | None) -> str | None:
    """Return the name of the meter that was at work when something was raised, if one was."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(tracks)]
    # What a library does on a meter's behalf, such as linear algebra, is the meter's doing.
    for code in dropwhile(lambda code: not _is_ours(code.co_filename), reversed(codes)):
        if code is passing.__code__:
            return None
        if not _is_ours(code.co_filename):
            if code.co_filename == contextlib.__file__:
                continue  # a `with` of our own
            return None
        if (name := _meter_in(Path(code.co_filename))) is not None:
            return name
    return None


def _is_ours(file: str) -> bool:
    return PACKAGE in Path(file).parents


def _meter_in(file: Path) -> str | None:
    parts = file.relative_to(PACKAGE).parts
    if not METERS & set(parts) or file == Path(__file__):
        return None
    engine = f"{parts[parts.index('engines') + 1]} " if "engines" in parts else ""
    return f"{engine}{file.stem}"
