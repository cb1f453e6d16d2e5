"""A file of rows → a dataset with the standard columns, or an error that names the guilty row.

Arrow parses, as it does inside `datasets`, but told that the wanted columns are text: left to
guess, `datasets` reads texts such as 007 or 2024-01-01 as numbers and dates, and fills up short
lines of CSV. Nothing is cached: all is kept in memory.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import datasets
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from tunematrix.configuration.steps import DatasetFile
from tunematrix.errors import WrongSetting, did_you_mean, nearest

LONGEST = 10_000_000
"""Characters of the longest text that a row may hold."""

_BLOCK = 64 * 2**20  # Arrow wants each row whole in a block; beyond, it is too long anyway
_ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


def read_rows(
    dataset: DatasetFile, fields: Mapping[str, str], route: tuple[str, ...] = ("dataset",)
) -> datasets.Dataset:
    """Read the texts of a file into memory.

    Args:
        dataset: the file; one that ends with .gz is unpacked meanwhile.
        fields: standard name of each wanted column → its name in the file. The entry of the
            config that names it is the standard name with `_field`.
        route: keys that lead to `dataset` in the step's settings.

    Returns:
        Rows in the file's order, with the columns of `fields` alone, all of them text.

    Raises:
        WrongSetting: the file can't be read, or one of its rows can't be used.
    """
    return _Reading(dataset, fields, route).rows()


class _Reading:
    def __init__(
        self, dataset: DatasetFile, fields: Mapping[str, str], route: tuple[str, ...]
    ) -> None:
        self.path = Path(dataset.path).expanduser()
        self.format = dataset.format
        self.fields = fields
        self.route = route

    def rows(self) -> datasets.Dataset:
        self._check_there()
        table = self._table(self.format or self._by_ending())
        if not len(table):
            raise self._wrong("has no rows")
        columns = {name: table[field] for name, field in self.fields.items()}
        for name, column in columns.items():
            self._check(name, column)
        return datasets.Dataset(pyarrow.table(columns))

    def _wrong(self, text: str) -> WrongSetting:
        return WrongSetting((*self.route, "path"), f"{self.path} {text}")

    def _wrong_field(self, name: str, text: str) -> WrongSetting:
        return WrongSetting((*self.route, f"{name}_field"), f"{self.path}: {text}")

    def _check_there(self) -> None:
        if self.path.is_dir():
            raise self._wrong("is a folder; name a file of it")
        if not self.path.exists():
            folder = self.path.parent
            there = [file.name for file in folder.iterdir()] if folder.is_dir() else []
            close = nearest(self.path.name, there)
            advice = f"did you mean {' or '.join(close)}?" if close else "correct the path"
            raise self._wrong(f"isn't there; {advice}")
        try:
            with self.path.open("rb"):
                pass
        except OSError as error:
            raise self._wrong(f"can't be opened ({error.strerror})") from None

    def _by_ending(self) -> str:
        name = Path(self.path.name.removesuffix(".gz"))
        if (found := _ENDINGS.get(name.suffix.lower())) is None:
            raise self._wrong("doesn't say by its ending how it is written; add `format`")
        return found

    def _open(self) -> BinaryIO:
        if self.path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(self.path))
        return self.path.open("rb")

    def _table(self, written: str) -> pyarrow.Table:
        try:
            if written == "csv":
                return self._csv()
            if written == "parquet":
                return self._parquet()
            return self._json()
        except (pyarrow.ArrowInvalid, ValueError, OSError) as error:
            raise self._wrong(f"can't be read as {written}: {error}") from None

    def _csv(self) -> pyarrow.Table:
        wanted = list(dict.fromkeys(self.fields.values()))
        with self._open() as file:
            return pyarrow.csv.read_csv(
                file,
                pyarrow.csv.ReadOptions(block_size=_BLOCK),
                pyarrow.csv.ParseOptions(newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pyarrow.string()), strings_can_be_null=False
                ),
            )

    def _parquet(self) -> pyarrow.Table:
        file = pyarrow.parquet.ParquetFile(self.path)
        self._check_named(file.schema_arrow.names)
        return file.read(columns=list(self.fields.values()))

    def _json(self) -> pyarrow.Table:
        wanted = dict.fromkeys(self.fields.values(), pyarrow.string())
        with self._open() as file:
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                file.seek(0)
                rows = json.loads(file.read().decode("utf-8-sig"))
                self._check_named(list(dict.fromkeys(key for row in rows[:100] for key in row)))
                return pyarrow.table({one: [row.get(one) for row in rows] for one in wanted})
            file.seek(0)
            return pyarrow.json.read_json(
                file,
                pyarrow.json.ReadOptions(block_size=_BLOCK),
                pyarrow.json.ParseOptions(
                    explicit_schema=pyarrow.schema(wanted), unexpected_field_behavior="ignore"
                ),
            )

    def _check_named(self, there: list[str]) -> None:
        for name, field in self.fields.items():
            if field not in there:
                text = f"has no field {field}; {did_you_mean(field, there)}"
                raise self._wrong_field(name, text)

    def _check(self, name: str, column: pyarrow.ChunkedArray) -> None:
        field = self.fields[name]
        if not pyarrow.types.is_string(column.type):
            raise self._wrong_field(name, f"the field {field} holds {column.type}, not text")
        compute = pyarrow.compute
        blank = compute.equal(compute.utf8_trim_whitespace(compute.fill_null(column, "")), "")
        first = compute.index(blank, True).as_py()
        if first >= 0:
            raise self._wrong_field(name, f"row {first + 1} has no text in its field {field}")
        longest = compute.index(compute.greater(compute.utf8_length(column), LONGEST), True).as_py()
        if longest >= 0:
            raise self._wrong_field(name, f"row {longest + 1} has more than {LONGEST:,} characters")
