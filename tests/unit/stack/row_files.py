"""Files of rows for tests, and what is read or said of them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tunematrix.configuration.inputs import DatasetFile
from tunematrix.errors import WrongSetting
from tunematrix.stack.steps.rows import read_rows

TEXT = {"text": "text"}
FIRST = ["Mia has a red ball.", "Tom lost it."]
TWO = '{"text": "Mia has a red ball."}\n{"text": "Tom lost it."}\n'


def dataset(path: Path, written: str | None = None) -> DatasetFile:
    """Describe a file as a user's config does."""
    return DatasetFile.model_validate({"path": str(path), "format": written})


def texts(path: Path, field: str = "text", written: str | None = None) -> list[str]:
    """Read one column."""
    read = read_rows(dataset(path, written), {"text": field})
    assert read.column_names == ["text"]
    return list(read["text"])


def refused(path: Path, fields: Mapping[str, str] = TEXT, written: str | None = None) -> str:
    """Return what is said of a file that can't be used, below the entry that is to blame."""
    with pytest.raises(WrongSetting) as caught:
        read_rows(dataset(path, written), fields, ("steps", "sft", "dataset"))
    assert caught.value.route[:3] == ("steps", "sft", "dataset")
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and "Traceback" not in text
    return f"{caught.value.route[3]}: {text.replace(f'{path} ', '')}"


def in_parquet(table: Mapping[str, list[Any]], **options: Any) -> bytes:
    """Return a file of Parquet."""
    file = BytesIO()
    parquet.write_table(pyarrow.table(dict(table)), file, **options)
    return file.getvalue()
