"""Files of rows: all that is read of honest ones."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pyarrow
import pytest
from tests.unit.stack.row_files import FIRST, TEXT, TWO, dataset, in_parquet, texts

from tunematrix.stack.steps.rows import read_rows

HONEST: Mapping[str, bytes] = {
    "list.json": json.dumps([{"text": one} for one in FIRST]).encode(),
    "list-over-lines.json": json.dumps([{"text": one} for one in FIRST], indent=2).encode(),
    "blank-lines-first.json": b"\n\n  " + json.dumps([{"text": one} for one in FIRST]).encode(),
    "lines.json": TWO.encode(),
    "list.jsonl": json.dumps([{"text": one} for one in FIRST]).encode(),
    "lines.jsonl": TWO.encode(),
    "lines.ndjson": TWO.encode(),
    "LOUD.JSONL": TWO.encode(),
    "no-last-line-end.jsonl": TWO.strip().encode(),
    "windows.jsonl": TWO.replace("\n", "\r\n").encode(),
    "mark.jsonl": b"\xef\xbb\xbf" + TWO.encode(),
    "mark.json": b"\xef\xbb\xbf" + json.dumps([{"text": one} for one in FIRST]).encode(),
    "mark.csv": b"\xef\xbb\xbftext\r\nMia has a red ball.\r\nTom lost it.\r\n",
    "blank-lines.jsonl": b"\n" + TWO.replace("\n", "\n \n\n").encode(),
    "packed.jsonl.gz": gzip.compress(TWO.encode()),
    "packed.csv.gz": gzip.compress(b"text\nMia has a red ball.\nTom lost it.\n"),
    "a name with [blanks] and *.jsonl": TWO.encode(),
    "others.jsonl": b'{"id": 1, "text": "Mia has a red ball.", "tags": [1, {"a": null}]}\n'
    b'{"text": "Tom lost it.", "id": "b", "tags": NaN, "text2": 5}\n',
    "twice.jsonl": b'{"text": "earlier", "text": "Mia has a red ball."}\n{"text": "Tom lost it."}',
    "plain.csv": b"id,text\n1,Mia has a red ball.\n2,Tom lost it.\n",
    "quoted.csv": b'text,n\n"Mia has a red ball.",\n"Tom lost it.",5',
    "blank-lines.csv": b"\ntext\n\nMia has a red ball.\n\nTom lost it.\n",
    "plain.parquet": in_parquet({"text": FIRST, "n": [1, 2]}),
    "groups.parquet": in_parquet({"n": [1, 2], "text": FIRST}, row_group_size=1),
    "zstd.parquet": in_parquet({"text": FIRST}, compression="zstd"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_files(tmp_path: Path, name: str) -> None:
    """Each says the same two rows in a way of its own."""
    (tmp_path / name).write_bytes(HONEST[name])
    assert texts(tmp_path / name) == FIRST
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["lines.jsonl", "plain.csv", "plain.parquet"])
def test_a_format_that_the_ending_does_not_say(tmp_path: Path, name: str) -> None:
    """The entry `format` counts, whatever the file is called."""
    (tmp_path / "rows.txt").write_bytes(HONEST[name])
    assert texts(tmp_path / "rows.txt", written=name.partition(".")[2]) == FIRST


TEXTS = (
    "007",
    "2024-01-01",
    "NA",
    "null",
    "true",
    "é 漢字 👩‍🚀 \u2028 \x85 end",
    'a "b", c',
    " x ",
    "1e5",
)


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_texts_stay_as_they_are(tmp_path: Path, ending: str) -> None:
    """No text is taken for a number, a date or nothing, and no line break in one ends its row."""
    wanted = [*TEXTS, "two\nlines", "two\r\nlines", "tab\there", "x" * 200_000]
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text"], *([one] for one in wanted)])
    elif ending == "parquet":
        path.write_bytes(in_parquet({"text": wanted}))
    else:
        lines = [json.dumps({"text": one}, ensure_ascii=False) for one in wanted]
        path.write_text("\n".join(lines) if ending == "jsonl" else f"[{','.join(lines)}]", "utf-8")
    limit = csv.field_size_limit(100_000)
    assert texts(path) == wanted
    assert csv.field_size_limit(limit) == 100_000


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.string_view()])
def test_other_kinds_of_text_in_parquet(tmp_path: Path, kind: pyarrow.DataType) -> None:
    """As other programs write them; one of few values each is stored by its number."""
    file = tmp_path / "rows.parquet"
    file.write_bytes(in_parquet({"text": pyarrow.array(FIRST, kind)}))
    assert texts(file) == FIRST
    file.write_bytes(in_parquet({"text": pyarrow.array(FIRST).dictionary_encode()}))
    assert texts(file) == FIRST


def test_preferences_under_names_of_their_own(tmp_path: Path) -> None:
    """Columns get the standard names in the order asked for; one may be wanted twice."""
    row = {"better": "Yes.", "question": "Is it?", "id": 7, "worse": "No."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    fields = {"prompt": "question", "chosen": "better", "rejected": "worse", "again": "worse"}
    read = read_rows(dataset(tmp_path / "pairs.jsonl"), fields)
    assert read.column_names == list(fields)
    assert read[:] == {
        "prompt": ["Is it?"],
        "chosen": ["Yes."],
        "rejected": ["No."],
        "again": ["No."],
    }


def test_a_field_with_a_dot(tmp_path: Path) -> None:
    """It is a name like others, not a way into an object."""
    (tmp_path / "rows.parquet").write_bytes(in_parquet({"a.b": FIRST, "a": [{"b": "x"}] * 2}))
    assert texts(tmp_path / "rows.parquet", "a.b") == FIRST


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_many_rows_in_memory_alone(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 rows come in their order; nothing is written, here or into the user's home."""
    random.seed(0)
    wanted = [f'{number} {"x" * random.randrange(200)}, "q"' for number in range(5000)]
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        file = StringIO()
        csv.writer(file).writerows([["id", "text"], *([n, one] for n, one in enumerate(wanted))])
        path.write_text(file.getvalue(), "utf-8")
    elif ending == "parquet":
        path.write_bytes(in_parquet({"text": wanted, "id": list(range(5000))}))
    else:
        listed = [{"id": number, "text": one} for number, one in enumerate(wanted)]
        lines = map(json.dumps, listed)
        path.write_text(json.dumps(listed) if ending == "json" else "\n".join(lines))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    read = read_rows(dataset(path), TEXT)
    mapped = read.map(lambda row: {"length": len(row["text"])})
    assert list(read["text"]) == wanted and mapped["length"][4999] == len(wanted[4999])
    assert not read.cache_files and not list(home.iterdir())


def test_a_path_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text(TWO)
    assert read_rows(dataset(Path("~/rows.jsonl")), TEXT).num_rows == 2
