"""Files of rows → rows one by one, each with the place where a person finds it in the file.

A file is read once, and what is wrong with it is said where it is met. `datasets` would guess:
it takes texts such as 007 or 2024-01-01 for numbers and dates, fills up short lines of CSV, and
lets a quote that is never closed swallow the rest of the file.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from tunematrix.errors import BadInput, Obstacle, Unavailable

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_ENCODED = "save it as UTF-8"
_AGAIN = "likely an interrupted copy: copy or write it again"
_BLANKS = " \t\r\n"
_PARQUET = b"PAR1"
_NO_ARROW = Obstacle(
    "the module pyarrow",
    "files of Parquet need pyarrow, which this environment lacks",
    "install it with: python -m pip install pyarrow; or save the rows as JSONL",
)


@dataclass(frozen=True)
class FileRow:
    """A row of a file.

    Attributes:
        where: the line or the row, counted from 1, such as "line 3".
        fields: name → value; of a Parquet file, the wanted ones alone.
    """

    where: str
    fields: Mapping[str, Any]


class BadFile(BadInput):
    """A file of rows can't be read; the text goes on after its name."""


class NoField(BadInput):
    """A file has no field of a name.

    Attributes:
        field: the name; there: those that there are.
    """

    def __init__(self, field: str, there: list[str]) -> None:
        super().__init__(f"has no field {field}")
        self.field = field
        self.there = there


Reader = Callable[[BufferedReader, tuple[str, ...]], Iterator[FileRow]]
"""Takes an open file and the names of the wanted fields.

Raises:
    BadFile: as soon as something in it can't be read; NoField: a wanted one is nowhere.
"""


def json_rows(file: BufferedReader, wanted: tuple[str, ...]) -> Iterator[FileRow]:
    """Read a list of objects, or an object on each line: its first character says which."""
    for line, text in _lines(file):
        if text.lstrip(_BLANKS).startswith("["):
            yield from _listed(text + _decoded(file.read(), line + 1), line)
        elif text.strip(_BLANKS):
            yield _object(_parsed(text, line, file), f"line {line}")


def _listed(text: str, begins: int) -> Iterator[FileRow]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        line = begins + error.lineno - 1
        if _ends_too_early(error):
            raise BadFile(f"ends in the middle of a row, in line {line}; {_AGAIN}") from None
        raise BadFile(f"isn't JSON in line {line}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"holds JSON that can't be read: {error}") from None
    for number, row in enumerate(rows, 1):
        yield _object(row, f"row {number}")


def _parsed(text: str, line: int, rest: BufferedReader) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not _ends_too_early(error):
            raise BadFile(f"isn't JSON in line {line}, column {error.colno}: {error.msg}") from None
        if any(after.strip() for after in rest):
            text = f"has an object in line {line} that doesn't end there: write each on one line"
            raise BadFile(f"{text}, or all as a list") from None
        raise BadFile(f"ends in the middle of its last row, line {line}; {_AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"holds JSON in line {line} that can't be read: {error}") from None


def _ends_too_early(error: json.JSONDecodeError) -> bool:
    # An unterminated string is reported where it begins; any line break would have ended it.
    return error.pos >= len(error.doc.rstrip(_BLANKS)) or error.msg.startswith("Unterminated")


def _object(row: object, where: str) -> FileRow:
    if isinstance(row, dict):
        return FileRow(where, row)
    raise BadFile(f"holds {kind(row)} in {where}, and not an object with fields")


def kind(value: object) -> str:
    """Return what a value is in a person's words, such as "a number"."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return {**names, list: "a list", dict: "an object"}.get(type(value), type(value).__name__)


def csv_rows(file: BufferedReader, wanted: tuple[str, ...]) -> Iterator[FileRow]:
    """Read lines below a line of names; values are separated by commas, and quoted by \"."""
    rows = csv.reader((text for _, text in _lines(file)), strict=True)
    names: list[str] = []
    with _long_fields():
        while (row := _next(rows)) is not None:
            line, values = row
            if not names:
                _check_names(names := values, wanted)
                continue
            if len(values) != len(names):
                text = f"has {len(values)} values in line {line}, and {len(names)} columns"
                raise BadFile(f"{text}: quote texts that hold commas or line breaks")
            yield FileRow(f"line {line}", dict(zip(names, values, strict=True)))


def _next(rows: CsvReader) -> tuple[int, list[str]] | None:
    """Return the next row that isn't blank, and the line that it begins in."""
    while True:
        line = rows.line_num + 1
        try:
            if values := next(rows):
                return line, values
        except StopIteration:
            return None
        except csv.Error as error:
            raise BadFile(f"isn't CSV in line {line}: {_explained(error)}") from None


def _check_names(names: list[str], wanted: tuple[str, ...]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise BadFile(f"has {names.count(name)} columns called {name}: rename all but one")
        if name in names:
            continue
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if len(names) == 1 and name in names[0].split(separator):
                raise BadFile(f"has its columns separated by {word}: save it with commas")
        raise NoField(name, names)


def _explained(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return f"a quote is opened and never closed; {_AGAIN}, or close the quote"
    if "expected after" in text:
        return 'a quoted text goes on after its end; a quote inside one is written twice: ""'
    if "new-line character" in text:
        return "lines end with a carriage return alone; save it with the line ends of Unix"
    return text


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def parquet_rows(file: BufferedReader, wanted: tuple[str, ...]) -> Iterator[FileRow]:
    """Read the wanted columns.

    Raises:
        Unavailable: pyarrow isn't installed.
    """
    try:
        # Only here, since MLX's environment lacks it, and other files need none.
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Unavailable(_NO_ARROW) from None
    if file.read(4) != _PARQUET:
        raise BadFile("isn't Parquet, or is damaged at its beginning; correct `format`")
    file.seek(-4, os.SEEK_END)
    if file.read(4) != _PARQUET:
        raise BadFile(f"is Parquet without its end; {_AGAIN}")
    number = 0
    try:
        content = parquet.ParquetFile(file)
        for name in wanted:
            if name not in content.schema_arrow.names:
                raise NoField(name, content.schema_arrow.names)
        for batch in content.iter_batches(1024, columns=list(wanted)):
            for fields in batch.to_pylist():
                number += 1
                yield FileRow(f"row {number}", fields)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFile(f"is damaged Parquet after row {number} ({reason}); {_AGAIN}") from None


def _lines(file: BufferedReader) -> Iterator[tuple[int, str]]:
    for line, raw in enumerate(file, 1):
        yield line, _decoded(raw, line)


def _decoded(raw: bytes, line: int) -> str:
    """Return the text of lines, the first of which is `line`, without a byte order mark."""
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        if line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise BadFile(f"is UTF-16: {_ENCODED}") from None
        before = raw[: error.start]
        line += before.count(b"\n")
        column = error.start - (before.rfind(b"\n") + 1) + 1
        text = f"isn't UTF-8: line {line} has 0x{raw[error.start]:02x} as its byte {column}"
        raise BadFile(f"{text}; likely it is Latin-1 or Windows-1252: {_ENCODED}") from None
    if (at := text.find("\0")) >= 0:
        line += text.count("\n", 0, at)
        raise BadFile(f"has a NUL byte in line {line}; likely it is damaged, or UTF-16: {_ENCODED}")
    return text
