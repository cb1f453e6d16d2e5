"""Files of rows that can't be used: what is said of them, and which entry is to blame."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pyarrow
import pytest
from tests.unit.stack.row_files import FIRST, TWO, dataset, in_parquet, refused, texts

from tunematrix.errors import WrongSetting
from tunematrix.stack.steps import rows
from tunematrix.stack.steps.rows import read_rows

PAIR = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
LINE = b'{"text": "a"}\n'
PARQUET = in_parquet({"text": FIRST * 100, "n": list(range(200))})

BAD: Mapping[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "path: is empty"),
    "blank.jsonl": (b"\n \n", "path: has no rows"),
    "none.json": (b"[]", "path: has no rows"),
    "names-alone.csv": (b"id,text\n", "path: has no rows"),
    "none.parquet": (in_parquet({"text": pyarrow.array([], "string")}), "path: has no rows"),
    "rows.txt": (LINE, "path: doesn't say by its ending how it is written; set format to one of"),
    "rows": (LINE, "path: doesn't say by its ending"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    # Fields that aren't there.
    "typing.jsonl": (b'{"txt": "a", "id": 1}\n', "text_field: has no field text; did you mean txt"),
    "other.json": (b'[{"a": 1, "b": 2}]', "text_field: has no field text; it can be a, b"),
    "lacking.jsonl": (LINE + b'{"a": 1}\n', "path: has no field text in line 2"),
    "lacking.json": (b'[{"text": "a"}, {"a": 1}]', "path: has no field text in row 2"),
    "wrapped.json": (b'{"data": [{"text": "a"}]}', "text_field: has no field text; it can be data"),
    "other.csv": (b"id,content\n1,a\n", "text_field: has no field text; it can be id, content"),
    "no-names.csv": (b"%b,1\n" % (b"long " * 20), f"it can be {'long ' * 7}lo..."),
    "other.parquet": (in_parquet({"Text": ["a"]}), "has no field text; did you mean Text?"),
    "semicolons.csv": (b"id;text\n1;a\n", "columns separated by semicolons: save it with commas"),
    "tabs.csv": (b"id\ttext\n1\ta\n", "columns separated by tabs"),
    "twice.csv": (b"text,text\na,b\n", "path: has 2 columns called text"),
    # Rows that hold no text.
    "null.jsonl": (LINE + b"\n" + b'{"text": null}\n', "path: holds null in line 3, field text"),
    "null.json": (b'[{"text": null}]', "path: holds null in row 1, field text; a text is needed"),
    "number.jsonl": (LINE * 2 + b'{"text": 5}\n', "path: holds a number in line 3, field text"),
    "number.parquet": (in_parquet({"text": [1, 2]}), "path: holds a number in row 1, field text"),
    "bytes.parquet": (in_parquet({"text": [b"a"]}), "path: holds bytes in row 1"),
    "null.parquet": (in_parquet({"text": [*FIRST, None]}), "path: holds null in row 3, field text"),
    "chat.jsonl": (b'{"text": [{"role": "user"}]}', "path: holds a list in line 1, field text"),
    "object.jsonl": (b'{"text": {"a": 1}}', "path: holds an object in line 1, field text"),
    "true.jsonl": (b'{"text": true}', "path: holds true or false in line 1, field text"),
    "blanks.jsonl": (LINE + b'{"text": " \\n\\t"}\n', "path: has no text but blanks in line 2"),
    "blanks.csv": (b'id,text\n1,a\n2,""\n', "path: has no text but blanks in line 3, field text"),
    "after-lines.csv": (b'id,text\n1,"a\nb\nc"\n2,\n', "path: has no text but blanks in line 5"),
    "strings.json": (b'["a", "b"]', "path: holds a text in row 1, and not an object with fields"),
    "strings.jsonl": (LINE + b'"b"\n', "path: holds a text in line 2, and not an object"),
    "null-row.jsonl": (LINE + b"null\n", "path: holds null in line 2, and not an object"),
    "surrogate.jsonl": (b'{"text": "a \\ud83d"}', "half a character (a lone surrogate) in line 1"),
    # Other encodings.
    "latin.jsonl": (LINE + '{"text": "café"}'.encode("latin-1"), "line 2 has 0xe9 as its byte 14;"),
    "latin.json": ('[{"text": "a"},\n{"text":"ü"}]'.encode("cp1252"), "line 2 has 0xfc as its"),
    "latin-below.json": (b'[{"text": "a"},\n\n{"text":"\xfc"}]', "line 3 has 0xfc as its byte 10"),
    "zero-below.json": (b'[{"text": "a"},\n\n{"text":"\0"}]', "has a NUL byte in line 3"),
    "latin.csv": ("id,text\n1,a\né,b\n".encode("cp1252"), "line 3 has 0xe9 as its byte 1;"),
    "utf16.jsonl": (TWO.encode("utf-16"), "path: is UTF-16: save it as UTF-8"),
    "utf16.csv": ("text\na\n".encode("utf-16"), "path: is UTF-16: save it as UTF-8"),
    "utf16-no-mark.jsonl": (TWO.encode("utf-16-le"), "path: has a NUL byte in line 1; likely"),
    "zeros.jsonl": (LINE * 3 + b"\0" * 512, "path: has a NUL byte in line 4; likely it is damaged"),
    "cut-character.jsonl": ('{"text": "é"}'.encode()[:11], "line 1 has 0xc3 as its byte 11"),
    # Broken JSON.
    "cut.jsonl": (LINE * 4 + LINE[:9], "middle of its last row, line 5; likely an interr"),
    "cut-in-text.jsonl": (LINE * 4 + LINE[:11], "middle of its last row, line 5; likely"),
    "cut-early.jsonl": (LINE + b"{", "ends in the middle of its last row, line 2"),
    "cut.json": (b'[{"text": "a"},\n{"text": "b', "ends in the middle of a row, in line 2; likely"),
    "cut-between.json": (b'[{"text": "a"},\n', "ends in the middle of a row, in line"),
    "broken.jsonl": (LINE + b'{"text" "b"}\n' + LINE, "isn't JSON in line 2, column 9: Expecting"),
    "broken-last.jsonl": (LINE + b'{"text": "b",}\n', "isn't JSON in line 2, column 1"),
    "joined.jsonl": (LINE + LINE.strip() + LINE, "isn't JSON in line 2, column 14: Extra data"),
    "python.jsonl": (b"{'text': 'a'}\n", "isn't JSON in line 1, column 2: Expecting property name"),
    "broken.json": (b'[{"text": "a"}\n{"text": "b"}]', "isn't JSON in line 2, column 1: Exp"),
    "broken-below.json": (b'\n\n[{"text": "a"}\n{"text": "b"}]', "isn't JSON in line 4, column 1"),
    "spread.jsonl": (b'{\n  "text": "a"\n}\n', "has an object in line 1 that doesn't end there"),
    "spread.json": (b'{"text": "a",\n "b": 1}\n', "has an object in line 1 that doesn't end there"),
    "deep.jsonl": (b'{"text": ' + b"[" * 100_000, "holds JSON in line 1 that can't be read"),
    "deep.json": (b"[" * 100_000, "path: holds JSON that can't be read"),
    "digits.jsonl": (b'{"text": "a", "b": ' + b"9" * 5000 + b"}", "in line 1 that can't be read"),
    "prose.jsonl": (b"Once upon a time\n", "isn't JSON in line 1, column 1: Expecting value"),
    "csv.json": (b"id,text\n1,a\n", "isn't JSON in line 1, column 1"),
    "parquet.jsonl": (PARQUET, "path: is Parquet: set format to parquet"),
    "zip.json": (b"PK\3\4zip", "path: is a zip archive: unpack it"),
    "packed.jsonl": (gzip.compress(LINE), "path: is packed by gzip: let its name end with .gz"),
    "packed.parquet": (gzip.compress(PARQUET), "path: is packed by gzip"),
    "binary.jsonl": (b"\x7fELF\1\0", "path: has a NUL byte in line 1"),
    # Broken CSV.
    "short.csv": (b"id,text\n1,a\n2\n3,c\n", "path: has 1 values in line 3, and 2 columns"),
    "long.csv": (b"id,text\n1,a\n2,b,c\n", "path: has 3 values in line 3, and 2 columns"),
    "all-long.csv": (b"id,text\n1,a,x\n2,b,y\n", "path: has 3 values in line 2, and 2 columns"),
    "unquoted.csv": (b"text,n\none\ntwo,1\n", "path: has 1 values in line 2, and 2 columns: quote"),
    "open.csv": (b'id,text\n1,a\n2,"b\n3,c\n4,d\n', "line 3: a quote is opened and never closed"),
    "escaped.csv": (b'text\n"a \\"b\\" c"\n', "CSV in line 2: a quoted text goes on after its"),
    "two-open.csv": (b'id,text\n1,"a\n2,b\n3,"c"\n', "line 2: a quoted text goes on after"),
    "old-mac.csv": (b"id,text\r1,a\r2,b\r", "line 1: lines end with a carriage return"),
    "json.csv": (TWO.encode(), 'no field text; it can be {"text": "Mia has a red ball."}'),
    # Broken Parquet, and packing.
    "lines.parquet": (TWO.encode(), "path: isn't Parquet, or is damaged at its beginning"),
    "tiny.parquet": (b"PA", "path: isn't Parquet"),
    "cut.parquet": (PARQUET[:-20], "path: is Parquet without its end; likely an interrupted copy"),
    "magic.parquet": (b"PAR1", "is damaged Parquet after row 0 ("),
    "footer.parquet": (PARQUET[:-9] + b"\xff" * 5 + b"PAR1", "is damaged Parquet after row 0 ("),
    "page.parquet": (PARQUET[:4] + b"\xff" * 40 + PARQUET[44:], "is damaged Parquet after row 0 ("),
    "cut.jsonl.gz": (gzip.compress(TWO.encode() * 99)[:-9], "path: can't be unpacked (Comp"),
    "plain.jsonl.gz": (TWO.encode(), "path: can't be unpacked (Not a gzipped file"),
    "damaged.jsonl.gz": (b"%b\xff\xff" % gzip.compress(LINE)[:14], "path: can't be unpacked ("),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    """Each is refused with the entry that is to blame, and the place where the file is wrong."""
    content, said = BAD[name]
    (tmp_path / name).write_bytes(content)
    limit = csv.field_size_limit(100_000)
    assert said in refused(tmp_path / name)
    assert csv.field_size_limit(limit) == 100_000


@pytest.mark.parametrize("lacking", PAIR)
def test_the_entry_of_the_field_that_is_wrong(tmp_path: Path, lacking: str) -> None:
    """Of three entries, the route leads to the one whose field isn't there."""
    row = {name: "a" for name in PAIR if name != lacking}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    said = refused(tmp_path / "pairs.jsonl", PAIR)
    assert said.startswith(f"{lacking}_field: has no field {lacking}")


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_a_row_that_is_too_long(tmp_path: Path, ending: str) -> None:
    """Its texts count together, and the longest that is allowed is read."""
    path = tmp_path / f"rows.{ending}"

    def write(length: int) -> None:
        column = {"prompt": ["a", "p" * 4], "chosen": ["b", "c" * length]}
        listed = [dict(zip(column, row, strict=True)) for row in zip(*column.values(), strict=True)]
        if ending == "parquet":
            path.write_bytes(in_parquet(column))
        elif ending == "csv":
            path.write_text("\n".join(map(",".join, [list(column), *map(dict.values, listed)])))
        else:
            lines = map(json.dumps, listed)
            path.write_text(json.dumps(listed) if ending == "json" else "\n".join(lines))

    fields = {"prompt": "prompt", "chosen": "chosen"}
    write(rows.LONGEST - 4)
    assert len(read_rows(dataset(path), fields)[1]["chosen"]) == rows.LONGEST - 4
    write(rows.LONGEST - 3)
    place = {"jsonl": "line 2", "csv": "line 3"}.get(ending, "row 2")
    assert f"path: has 10,000,001 characters in {place}, and the most is" in refused(path, fields)


def test_a_path_that_is_wrong(tmp_path: Path) -> None:
    """What may have been meant is named; a folder, a pipe and a dead link are told apart."""
    (tmp_path / "rows.jsonl").write_text(TWO)
    wrong = tmp_path / "row.jsonl"
    assert refused(wrong) == "path: isn't there; did you mean rows.jsonl?"
    assert refused(tmp_path / "x.csv") == "path: isn't there; correct the path"
    nowhere = tmp_path / "data" / "rows.jsonl"
    assert refused(nowhere) == f"path: isn't there: there is no folder {tmp_path / 'data'}"
    assert "path: isn't there" in refused(tmp_path / "rows.jsonl" / "rows.jsonl")
    assert refused(tmp_path) == "path: is a folder; name a file in it"
    wrong.symlink_to("rows-of-old.jsonl")
    assert refused(wrong) == "path: is a link to rows-of-old.jsonl, which isn't there"
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "path: is no file that can be read again" in refused(tmp_path / "pipe.jsonl")
    assert "path: can't be read: File name too long" in refused(tmp_path / ("x" * 300))


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """The system's reason is passed on."""
    (tmp_path / "rows.jsonl").write_text(TWO)
    (tmp_path / "rows.jsonl").chmod(0)
    if os.access(tmp_path / "rows.jsonl", os.R_OK):
        pytest.skip("root may read everything")
    assert refused(tmp_path / "rows.jsonl") == "path: can't be read: Permission denied"


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
def test_copies_that_were_interrupted_anywhere(tmp_path: Path, ending: str) -> None:
    """Cut after any byte, a file is refused, or what is read of it are its first rows.

    A file of lines that was cut between two of them can't be told from a shorter one, nor can a
    text of CSV that was cut after what may be its closing quote.
    """
    path = tmp_path / f"rows.{ending}"
    wanted = [f'{number}: é 漢 "q", x' for number in range(6)]
    lines = [json.dumps({"text": one}, ensure_ascii="3" in one) for one in wanted]
    quoted = StringIO()
    csv.writer(quoted).writerows([["text"], *([one] for one in wanted)])
    whole = {
        "jsonl": "\n".join(lines).encode(),
        "jsonl.gz": gzip.compress("\n".join(lines).encode()),
        "json": f"[{', '.join(lines)}]".encode(),
        "csv": quoted.getvalue().encode(),
        "parquet": in_parquet({"text": wanted}),
    }[ending]
    found: list[list[str]] = []
    for length in range(0, len(whole), 3 if ending == "parquet" else 1):
        path.write_bytes(whole[:length])
        with suppress(WrongSetting):
            found.append(texts(path))
    assert len(found) <= {"jsonl": 11, "csv": 35}.get(ending, 0)
    for *before, last in found:
        assert before == wanted[: len(before)]
        text = wanted[len(before)]
        assert last == text or (ending == "csv" and text.startswith(last))
