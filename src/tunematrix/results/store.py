"""The records on disk: appended and flushed as each cell ends, by one writer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.results.record import SCHEMA_VERSION, Record


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
                _cut_torn_line(file)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = (
                f"can't record {record.cell_id} in {self.path}: {error.strerror}; the records "
                "before it are safe. Free some space (old runs lie beside it in runs/) and run "
                "again"
            )
            raise MachineProblem(message) from error

    def read(self) -> tuple[Record, ...]:
        """Return all records, oldest first; a line torn by a killed run is left out.

        Raises:
            BadInput: a whole line isn't a record, or is one of another schema.
        """
        if not self.path.exists():
            return ()
        lines = self.path.read_bytes().split(b"\n")
        return tuple(self._parse(number, line) for number, line in enumerate(lines[:-1], 1))

    def _parse(self, number: int, line: bytes) -> Record:
        try:
            data = json.loads(line)
            if data["schema_version"] != SCHEMA_VERSION:
                message = (
                    f"{self.path}:{number}: schema {data['schema_version']}, this version reads "
                    f"{SCHEMA_VERSION}: use the tunematrix that wrote it, or move the file away"
                )
                raise BadInput(message)
            return Record.from_json(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{self.path}:{number}: not a record ({error}); remove the line or the file"
            raise BadInput(message) from error


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
    kept = tuple(records)
    return tuple(record for record in kept if record.run_id == kept[-1].run_id)


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
    machine = next((one.machine for one in records if one.versions), records[0].machine)
    hardware = machine.get("gpu") or machine.get("hardware") or ""
    words = (records[0].environment, machine["system"], machine["architecture"], hardware)
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, words)).lower()).strip("-")
    path = folder / f"{name}.jsonl"
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    for record in records:
        Store(unfinished).append(replace(record, run_dir=""))
    return unfinished.replace(path)
