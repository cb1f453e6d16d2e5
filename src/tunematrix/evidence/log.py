"""`events.jsonl`: events go in, one line each, and come out as the same dataclasses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from tunematrix.errors import BadInput
from tunematrix.evidence.events import Event, Phase
from tunematrix.evidence.files import read_bounded
from tunematrix.evidence.lines import rebuilt
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.evidence.tensors import Array, TensorKey, write_tensors

LARGEST = 1_000_000_000
"""Bytes of events that are read; an honest cell writes a few thousandths of that."""

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


class EventLog:
    """Appends events to a file; what was written survives the death of the writer.

    Values of environment variables that look like credentials are masked in every string.

    Attributes:
        current_phase: innermost phase that is under way, or that an exception just left;
            empty outside of all.
    """

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        # Unbuffered appending: one system call a line, so that lines of threads, and of
        # ranks that open the same file, never mix.
        self._file = path.open("ab", buffering=0)
        self._path = path
        self._secrets = secrets_in(environ)
        self._tensors: dict[TensorKey, Array] = {}
        self.current_phase = ""

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._tensors:
            write_tensors(RunDir(self._path.parent).tensors, self._tensors)

    def write(self, event: Event) -> None:
        """Appends one event.

        Raises:
            TypeError: a field holds something that JSON can't express.
            OSError: the line could not be written whole.
        """
        line = json.dumps({"kind": type(event).__name__, **self._fields(event)}).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(f"{self._path}: an event was cut off; is the disk full?")

    def keep(self, key: TensorKey, tensor: Array) -> None:
        """Keeps a tensor for relations; all of them are written when the log is closed."""
        self._tensors[key] = tensor

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures a stretch of the run; writes `Phase` when it ends without raising."""
        outer, self.current_phase = self.current_phase, name
        started = time.perf_counter()
        yield
        # Not in a finally: after an exception the name must stand until Raised has been written.
        self.current_phase = outer
        self.write(Phase(name, time.perf_counter() - started))

    def _fields(self, row: Any) -> dict[str, object]:
        return {name: self._masked(getattr(row, name)) for name in _names(row.__class__)}

    def _masked(self, value: object) -> object:
        # dataclasses.asdict would copy every number on the way; several events are written a step.
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, str):
            return masked(value, self._secrets)
        if isinstance(value, Mapping):
            return {self._masked(key): self._masked(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(entry) for entry in value]
        return self._fields(value) if is_dataclass(value) else value


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


class EventTail:
    """Reads the events of a cell that is still running, as they come.

    Args:
        path: of `events.jsonl`; the file may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._lines = path, 0, 0

    def new(self) -> Iterator[Event]:
        """Yield what was written since the last call; a line that isn't whole yet is left."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, line_break, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._offset += len(whole) + len(line_break)
        for line in whole.split(b"\n") if line_break else ():
            self._lines += 1
            yield _event(line, f"{self._path}:{self._lines}")


def read_events(path: Path) -> tuple[Event, ...]:
    """Reads all events of a cell, in the order in which they were written.

    A last line without its line break was cut off by the end of the cell, and is left out.

    Raises:
        BadInput: another line is no event, and the text says which; or the file is none of ours.
    """
    try:
        *lines, _torn = read_bounded(path, LARGEST).split(b"\n")
    except OSError as error:
        raise BadInput(
            f"{path}: can't be read ({error}). The cell has put something else there; see what "
            "its recipe does in its own folder."
        ) from error
    return tuple(_event(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))


def _event(line: bytes, place: str) -> Event:
    try:
        event: Event = rebuilt(line, _KINDS)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{place}: not an event ({type(error).__name__}: {error}). "
            "Something other than tunematrix's worker wrote to this file, or another version "
            "of it; run the cell again."
        ) from error
    return event
