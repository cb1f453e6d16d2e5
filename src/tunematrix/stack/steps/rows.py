"""A file of rows → texts under the standard names, or an error that names the guilty row."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from io import BufferedReader
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from tunematrix.configuration.inputs import DatasetFile
from tunematrix.errors import WrongSetting, did_you_mean, nearest
from tunematrix.stack.steps.row_files import (
    BadFile,
    FileRow,
    NoField,
    Reader,
    csv_rows,
    json_rows,
    kind,
    parquet_rows,
)

if TYPE_CHECKING:
    from datasets import Dataset

LONGEST = 10_000_000
"""Characters that a row's texts may have together."""

_AT_ONCE = 1000
_READERS: Mapping[str, Reader] = {
    "json": json_rows,
    "jsonl": json_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
_ENDINGS = {".ndjson": "jsonl", **{f".{name}": name for name in _READERS}}
_PACKED = ".gz"
_OTHERS: Mapping[bytes, str] = {
    b"version https://git-lfs": "is what Git LFS keeps in place of a file: run `git lfs pull`",
    b"PAR1": "is Parquet: set format to parquet",
    b"PK\3\4": "is a zip archive: unpack it",
    b"\x1f\x8b": "is packed by gzip: let its name end with .gz",
}
"""What a file begins with that was taken for another."""


def read_rows(
    dataset: DatasetFile, fields: Mapping[str, str], route: tuple[str, ...] = ("dataset",)
) -> Dataset:
    """Read the texts of a file into memory, as `texts` gives them; nothing is cached on disk.

    Returns:
        Rows in the file's order, with the columns of `fields` alone.

    Raises:
        WrongSetting: see `texts`.
    """
    # Only here, since MLX's environment has neither.
    import pyarrow
    from datasets import Dataset
    from datasets.fingerprint import generate_random_fingerprint

    schema = pyarrow.schema({name: pyarrow.string() for name in fields})
    rows = texts(dataset, fields, route)
    batches = []
    # Few at a time, so that texts aren't held twice.
    while batch := list(islice(rows, _AT_ONCE)):
        batches.append(pyarrow.RecordBatch.from_pylist(batch, schema))
    # By default, all texts would be pickled to be given a name; caches alone ask for it.
    return Dataset(pyarrow.Table.from_batches(batches), fingerprint=generate_random_fingerprint())


def texts(
    dataset: DatasetFile, fields: Mapping[str, str], route: tuple[str, ...] = ("dataset",)
) -> Iterator[dict[str, str]]:
    """Yield the texts of a file, row by row.

    Args:
        dataset: the file: UTF-8 unless it is Parquet. It may be packed, and end with .gz.
        fields: standard name of each wanted column → its name in the file. The entry of the
            config that names it is the standard name with `_field`.
        route: keys that lead to `dataset` in the step's settings.

    Yields:
        Rows in the file's order, one at least: standard name → text that isn't blank.

    Raises:
        WrongSetting: the file can't be read, or one of its rows can't be used; the route leads to
            the path, or to the entry that names a field that no row has.
    """
    path = Path(dataset.path)
    try:
        path = path.expanduser()
        _check_there(path)
        written = dataset.format or _by_ending(path)
        _check_begins(path, written)
        reader = _READERS[written]
        with closing(_rows(path, reader, tuple(dict.fromkeys(fields.values())))) as rows:
            yield from _texts(rows, fields)
    except NoField as error:
        name = next(name for name, field in fields.items() if field == error.field)
        there = [one if len(one) <= 40 else f"{one[:37]}..." for one in error.there]
        text = f"{path} {error}; {did_you_mean(error.field, there)}"
        raise WrongSetting((*route, f"{name}_field"), text) from None
    except BadFile as error:
        raise WrongSetting((*route, "path"), f"{path} {error}") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise WrongSetting((*route, "path"), f"{path} can't be read: {reason}") from None


def _check_there(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BadFile(_missing(path)) from None
    if S_ISDIR(mode):
        raise BadFile("is a folder; name a file in it")
    if not S_ISREG(mode):
        raise BadFile("is no file that can be read again; write the rows to one")


def _check_begins(path: Path, written: str) -> None:
    packed = path.suffix.lower() == _PACKED
    with path.open("rb") as file:
        begins = file.read(32)
    if not begins:
        raise BadFile("is empty")
    for magic, text in _OTHERS.items():
        honest = (written == "parquet" and magic == b"PAR1") or (packed and magic == b"\x1f\x8b")
        if begins.startswith(magic) and not honest:
            raise BadFile(text)


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"is a link to {path.readlink()}, which isn't there"
    if not path.parent.is_dir():
        return f"isn't there: there is no folder {path.parent}"
    close = nearest(path.name, sorted(file.name for file in path.parent.iterdir()))
    advice = f"did you mean {' or '.join(close)}?" if close else "correct the path"
    return f"isn't there; {advice}"


def _by_ending(path: Path) -> str:
    ending = Path(path.name.removesuffix(_PACKED)).suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    text = (
        f"doesn't say by its ending how it is written; set format to one of {', '.join(_READERS)}"
    )
    raise BadFile(text)


def _rows(path: Path, reader: Reader, wanted: tuple[str, ...]) -> Generator[FileRow, None, None]:
    with path.open("rb") as file:
        if path.suffix.lower() != _PACKED:
            yield from reader(file, wanted)
            return
        try:
            with gzip.open(file) as unpacked:
                yield from reader(BufferedReader(unpacked), wanted)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            text = f"can't be unpacked ({error}); likely an interrupted copy: copy it again"
            raise BadFile(text) from None


def _texts(rows: Iterator[FileRow], fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    number = -1
    for number, row in enumerate(rows):
        found = {name: _text(row, field, number == 0) for name, field in fields.items()}
        if (length := sum(map(len, found.values()))) > LONGEST:
            text = f"has {length:,} characters in {row.where}, and the most is {LONGEST:,}"
            raise BadFile(f"{text}: split the row")
        yield found
    if number < 0:
        raise BadFile("has no rows")


def _text(row: FileRow, field: str, first: bool) -> str:
    """Return the text of a field; where the first row lacks it, its name is taken to be wrong."""
    if field not in row.fields:
        if first:
            raise NoField(field, list(row.fields))
        raise BadFile(f"has no field {field} in {row.where}")
    value = row.fields[field]
    if not isinstance(value, str):
        text = f"holds {kind(value)} in {row.where}, field {field}"
        raise BadFile(f"{text}; a text is needed")
    if not value.strip():
        raise BadFile(f"has no text but blanks in {row.where}, field {field}")
    try:
        value.encode()
    except UnicodeEncodeError:
        text = f"has half a character (a lone surrogate) in {row.where}, field {field}"
        raise BadFile(f"{text}; write the text again") from None
    return value
