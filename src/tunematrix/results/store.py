"""The records on disk: appended and flushed as each cell ends, each writer in its turn."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.results import v1
from tunematrix.results.record import SCHEMA_VERSION, Record
from tunematrix.spec.problems import dotted

LONGEST_NAME = 200
"""Characters of a file's name; most systems take 255."""
_TAIL_BYTES = 8_000_000
"""About a thousand records."""
_FIRST = b'{"run_id": '
"""What each line begins with as it is written here."""
MOST_SAID = 3
"""Fields of a malformed record that a message names."""


class _NameOnly(BaseModel):
    """What names a record; the rest of its line isn't looked at."""

    cell_id: str = ""
    run_id: str = ""


class Store:
    """One environment's results.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Record) -> None:
        """Write one line and hand it to the disk.

        Raises:
            MachineProblem: there is no room, or no right to write.
        """
        line = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                # Or what another writer is in the midst of would look torn, and be cut.
                fcntl.flock(file, fcntl.LOCK_EX)
                _cut_torn_line(file)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = (
                f"can't record {record.cell_id} in {self.path}: {error.strerror or error}; the "
                "records before it are safe. Free some space (old runs lie beside it in runs/) and "
                "run again"
            )
            raise MachineProblem(message) from error

    def read(self) -> tuple[Record, ...]:
        """Return all records, oldest first; a line torn by a killed run is left out.

        Raises:
            BadInput: the file can't be read, or a whole line isn't a record or is one of a newer
                schema; the text says file and line.
        """
        return tuple(
            parsed(line, f"{self.path}:{number}") for number, line in enumerate(self.lines(), 1)
        )

    def newest(self) -> tuple[Record, ...]:
        """Return the records of the run that was recorded last.

        Those of other runs are passed over unread, since a project's file has all its runs.

        Raises:
            BadInput: as `read` does, of lines that aren't another run's.
        """
        last = deque(enumerate(self.lines(), 1), maxlen=1)
        if not last:
            return ()
        ((end, line),) = last
        run_id = parsed(line, f"{self.path}:{end}").run_id
        mine = _FIRST + json.dumps(run_id, ensure_ascii=False).encode()
        found = (
            parsed(line, f"{self.path}:{number}")
            for number, line in enumerate(self.lines(), 1)
            if line.startswith(mine) or not line.startswith(_FIRST)
        )
        return tuple(record for record in found if record.run_id == run_id)

    def earlier(
        self, cells: Collection[str], run_id: str, most: int = 1
    ) -> dict[str, tuple[Record, ...]]:
        """Return the newest records that cells have of other runs, oldest first.

        Only the end of a long file is looked at, since this is asked at the end of every run.

        Args:
            cells: their ids. run_id: the run whose records are left out. most: of each cell.

        Raises:
            BadInput: as `read` does.
        """
        found: dict[str, list[Record]] = {cell: [] for cell in cells}
        full = 0
        for line in reversed(self._last_lines()):
            if full == len(found):
                break
            head = _head(line)
            mine = found.get(head.cell_id)
            if mine is None or len(mine) == most or head.run_id == run_id:
                continue
            mine.append(parsed(line, f"{self.path}, near its end"))
            full += len(mine) == most
        return {cell: tuple(reversed(records)) for cell, records in found.items() if records}

    def _last_lines(self) -> list[bytes]:
        """Return the whole lines among the last megabytes; none of a device, or a pipe."""
        if self._is_device:
            return []
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, size - _TAIL_BYTES)
                file.seek(start)
                # No more than that: a device, in the place of a file, has no end.
                lines = file.read(size - start).split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        return lines[1:] if start else lines

    def lines(self) -> Iterator[bytes]:
        """Yield all whole lines, oldest first; none where there is no file.

        Raises:
            BadInput: the file can't be read, or is a device or a pipe, which may have no end.
        """
        if self._is_device:
            raise BadInput(f"{self.path}: is no regular file; give a file of records")
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def _is_device(self) -> bool:
        """Whether it may have no end, or nobody who writes it."""
        return self.path.exists() and not (self.path.is_file() or self.path.is_dir())

    def _unreadable(self, error: OSError) -> BadInput:
        return BadInput(f"{self.path}: can't be read: {error.strerror}; give a file of records")


def _head(line: bytes) -> _NameOnly:
    """Return what names a record; what is none, `parsed` refuses if it is wanted."""
    try:
        return _NameOnly.model_validate_json(line)
    except ValidationError:
        return _NameOnly()


def parsed(line: bytes, place: str) -> Record:
    """Return the record in a line, whatever schema it is of.

    Args:
        line: without its line break. place: where it stands, for messages.

    Raises:
        BadInput: it isn't a record, or one of a newer schema.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _no_record(place, f"no line of JSON: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _no_record(place, "it has no schema_version")
    if version > SCHEMA_VERSION:
        message = (
            f"{place}: a record of schema {version}, and this tunematrix reads those up to "
            f"{SCHEMA_VERSION}; upgrade tunematrix, or read the file with the one that wrote it"
        )
        raise BadInput(message)
    try:
        if version == 1:
            data = v1.upgraded(data)
        # Schemas 3 and 4 have fields that those before lack, each with a default, and differ in
        # nothing else.
        return Record.from_json({**data, "schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        raise _no_record(place, _what_is_wrong(error)) from error
    except UnicodeEncodeError as error:
        raise _no_record(place, f"a text can't be encoded: {error.reason}") from error


def _no_record(place: str, why: str) -> BadInput:
    return BadInput(f"{place}: not a record ({why}); remove the line, or give another file")


def _what_is_wrong(error: ValidationError) -> str:
    """Name the first fields that are wrong, and what is wrong with each."""
    problems = error.errors(include_url=False, include_context=False)
    texts = [f"{dotted(problem['loc'])}: {problem['msg']}" for problem in problems[:MOST_SAID]]
    more = len(problems) - MOST_SAID
    return "; ".join([*texts, f"and {more} more"] if more > 0 else texts)


def _cut_torn_line(file: BinaryIO) -> None:
    """Remove what a killed run or a full disk left of the last line."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def newest_run(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the records of the run that was recorded last."""
    everything = tuple(records)
    return tuple(record for record in everything if record.run_id == everything[-1].run_id)


def once(files: Iterable[Iterable[Record]]) -> Iterator[Record]:
    """Yield the records of some files, without those that an earlier file has as well.

    Which folder the evidence lay in may differ: a copy of a record doesn't have it.
    """
    known: set[bytes] = set()
    for file in files:
        # A figure may be nan, which is unlike itself; its text isn't.
        texts = ((repr(replace(record, run_dir="")), record) for record in file)
        each = [
            (blake2b(text.encode("utf-8", "backslashreplace")).digest(), record)
            for text, record in texts
        ]
        yield from (record for digest, record in each if digest not in known)
        known.update(digest for digest, _ in each)


def keep(records: Sequence[Record], folder: Path) -> Path:
    """Write the records of one run into a file of their own, and return it.

    It is named for the environment, the system and the hardware, so that a newer run there takes
    its place.

    Raises:
        BadInput: they are of several runs.
        MachineProblem: there is no room, or no right to write.
    """
    if len({record.run_id for record in records}) > 1:
        message = "the records are of several runs; keep those of one"
        raise BadInput(message)
    machine = next((record.machine for record in records if record.versions), records[0].machine)
    hardware = machine.get("gpu") or machine.get("hardware") or ""
    host = (machine.get("system", ""), machine.get("architecture", ""))
    words = (records[0].environment, *host, hardware)
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, words)).lower()).strip("-")
    path = folder / f"{name[:LONGEST_NAME]}.jsonl"
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        for record in records:
            Store(unfinished).append(replace(record, run_dir=""))
        return unfinished.replace(path)
    except OSError as error:
        message = f"can't write into {folder}: {error.strerror}; give a folder that can be written"
        raise MachineProblem(message) from error
