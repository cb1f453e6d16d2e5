"""The records of many runs, environments and machines in one file: each kept once, found by cell.

Files of records are poured in; they come from other machines, and hold what other releases wrote.
Whatever two of them have in common is one record here, however it is written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.results.head import checked_head_of
from tunematrix.results.record import Record
from tunematrix.results.run_line import HOST, OutcomeCount, RunLine, parted
from tunematrix.results.store import Store, parsed

VERSION = 1
"""Of the tables below."""
_WAITS = 120.0
"""Seconds for another writer to be done."""
_TABLES = """
CREATE TABLE machines (id BLOB PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id BLOB PRIMARY KEY,
    run TEXT NOT NULL, environment TEXT NOT NULL, cell TEXT NOT NULL, relation INT NOT NULL,
    outcome TEXT NOT NULL, machine BLOB NOT NULL, line BLOB NOT NULL
);
CREATE INDEX by_run ON records (run, environment, relation, outcome, machine);
CREATE INDEX by_cell ON records (cell, environment, run);
"""


@dataclass(frozen=True)
class Poured:
    """What became of some files: records that are new here, and those that were here already."""

    new: int
    known: int


class History:
    """The records in one file of SQLite; several processes may pour into it at once.

    Use it as a context manager. A process that is killed leaves it as it was before the file that
    it was pouring in.

    Args:
        path: of the file; it is made if it isn't there.

    Raises:
        BadInput: the file is no history, or one of a newer tunematrix.
        MachineProblem: it can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=_WAITS, isolation_level=None)
            self._prepare()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._base.close()

    def pour(self, files: Iterable[Path]) -> Poured:
        """Take in what is new in files of records, each file whole or not at all.

        A last line that a killed run has torn is left out.

        Raises:
            BadInput: a line isn't a record; the text says file and line.
            MachineProblem: the history can't be written.
        """
        seen, before = 0, self._count()
        for file in files:
            with self._told(), self._transaction():
                for number, line in enumerate(Store(file).lines(), 1):
                    self._insert(line, f"{file}:{number}")
                    seen += 1
        new = self._count() - before
        return Poured(new, seen - new)

    def runs(self) -> tuple[RunLine, ...]:
        """Return all runs, oldest first by the clocks of their machines."""
        query = (
            "SELECT run, environment, relation, outcome, machine, count(*) FROM records "
            "GROUP BY run, environment, relation, outcome, machine ORDER BY run, environment"
        )
        with self._told(), closing(self._base.execute("SELECT id, facts FROM machines")) as rows:
            machines = {key: json.loads(facts) for key, facts in rows}
            counted = self._base.execute(query).fetchall()
        groups: dict[tuple[str, str], list[OutcomeCount]] = {}
        for run, environment, *rest in counted:
            groups.setdefault((run, environment), []).append(OutcomeCount(*rest))
        return tuple(
            line
            for (run, environment), group in groups.items()
            for line in parted(run, environment, group, machines)
        )

    def cells(self, words: str, environment: str | None = None) -> tuple[Record, ...]:
        """Return the records of all cells whose id has `words` in it, oldest first.

        Raises:
            BadInput: a line isn't what it was when it was poured in.
        """
        query = (
            "SELECT line, rowid FROM records WHERE instr(cell, ?) AND ? IN (environment, '') "
            "ORDER BY run, rowid"
        )
        return self._records(query, (words, environment or ""))

    def ids(self, environment: str | None = None) -> tuple[str, ...]:
        """Return the ids of all cells and relations, those of one environment if it is named."""
        query = "SELECT DISTINCT cell FROM records WHERE ? IN (environment, '') ORDER BY cell"
        with self._told():
            return tuple(cell for (cell,) in self._base.execute(query, (environment or "",)))

    def run(self, run_id: str, environment: str) -> tuple[Record, ...]:
        """Return the records of one run of an environment, in the order they were poured in."""
        query = "SELECT line, rowid FROM records WHERE run = ? AND environment = ? ORDER BY rowid"
        return self._records(query, (run_id, environment))

    def recent(self, environment: str, most: int) -> Iterator[bytes]:
        """Yield the records of an environment's newest runs as lines of JSON, oldest first."""
        query = (
            "SELECT line FROM records WHERE environment = ? AND run IN (SELECT DISTINCT run FROM "
            "records WHERE environment = ? ORDER BY run DESC LIMIT ?) ORDER BY run, rowid"
        )
        with self._told():
            for (line,) in self._base.execute(query, (environment, environment, most)):
                yield line

    def lines(self) -> Iterator[bytes]:
        """Yield each record as a line of JSON, without its line break, oldest first."""
        with self._told():
            for (line,) in self._base.execute("SELECT line FROM records ORDER BY run, rowid"):
                yield line

    def _records(self, query: str, values: Sequence[str]) -> tuple[Record, ...]:
        with self._told():
            rows = self._base.execute(query, values).fetchall()
        try:
            return tuple(parsed(line, f"row {row}") for line, row in rows)
        except BadInput as error:
            message = f"{self.path}: {error}; it can be made anew from its files: history --add"
            raise BadInput(message) from error

    def _insert(self, line: bytes, place: str) -> None:
        head = checked_head_of(line, place)
        host = {name: head.machine[name] for name in HOST if name in head.machine}
        facts = json.dumps([host, head.versions], sort_keys=True)
        machine = _digest(facts)
        self._base.execute("INSERT OR IGNORE INTO machines VALUES (?, ?)", (machine, facts))
        names = (head.run_id, head.environment, head.cell_id)
        told_apart = json.dumps(
            [*names, head.outcome, head.metrics, head.durations], sort_keys=True
        )
        own = (_digest(told_apart, machine), *names, bool(head.arms), head.outcome, machine, line)
        self._base.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", own)

    def _count(self) -> int:
        with self._told():
            (count,) = self._base.execute("SELECT count(*) FROM records").fetchone()
        return int(count)

    def _prepare(self) -> None:
        """Make the tables, if this is a new file.

        Raises:
            BadInput: there are others, or newer ones.
        """
        # Pages that are new are written once; with a log ahead of them it would be twice.
        self._base.execute("PRAGMA journal_mode = DELETE")
        self._base.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            (tables,) = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not version and not tables:
                for statement in _TABLES.split(";"):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {VERSION}")
            elif version > VERSION:
                message = f"{self.path} is a history of form {version}, and this tunematrix knows "
                message += f"{VERSION}; upgrade tunematrix, or name another file"
                raise BadInput(message)
            elif version != VERSION:
                message = f"{self.path} is a database of something else; name another file"
                raise BadInput(message)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise what goes wrong with the file as what a user can act on."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                message = f"{self.path}: {error}; likely the disk is full, the folder can't be "
                message += "written, or another program holds the file. Nothing in it is lost"
                raise MachineProblem(message) from error
            message = f"{self.path} is no history ({error}); name another file"
            raise BadInput(message) from error
        except OSError as error:
            message = f"can't keep a history in {self.path}: {error.strerror}; name another file"
            raise MachineProblem(message) from error


def _digest(text: str, key: bytes = b"") -> bytes:
    return blake2b(text.encode(), digest_size=16, key=key).digest()
