from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.results.conftest import a_record

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.results.record import Record
from tunematrix.results.store import Store, keep, newest_run, once


def test_records_come_back_in_order(store: Store) -> None:
    """Appended one after the other, read oldest first."""
    records = tuple(a_record(f"cell {number}") for number in range(3))
    for record in records:
        store.append(record)
    assert store.read() == records


def test_what_has_no_end(tmp_path: Path) -> None:
    """A device is refused, and a pipe that nobody writes to, before either is read."""
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/full"), Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(BadInput, match="is no regular file"):
            Store(path).read()


def test_nothing_recorded_yet(store: Store) -> None:
    """An absent file and an empty one hold no record."""
    assert store.read() == ()
    store.path.parent.mkdir(parents=True)
    store.path.touch()
    assert store.read() == ()


def test_text_of_any_language(store: Store) -> None:
    """Reasons are kept readable in the file, line separators inside them don't break lines."""
    record = Record("r1", "a[cpu]", "a.yaml", "cpu", {}, "failed", "größer als ≤ 3 \u2028 ✗\nzwei")
    store.append(record)
    store.append(a_record())
    assert "größer als ≤ 3" in store.path.read_text(encoding="utf-8")
    assert store.read() == (record, a_record())


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_line_is_left_out(store: Store, cut: int) -> None:
    """A killed run loses the record it was writing, and no other."""
    store.append(a_record("first"))
    store.append(a_record("second"))
    os.truncate(store.path, store.path.stat().st_size - cut)
    assert store.read() == (a_record("first"),)


@pytest.mark.parametrize("torn", [b'{"run_id": "r1", "ce', '{"reason": "≤'.encode()[:-1]])
def test_the_next_record_begins_on_a_line_of_its_own(store: Store, torn: bytes) -> None:
    """It would be lost otherwise, and everything before it unreadable."""
    store.append(a_record("first"))
    with store.path.open("ab") as file:
        file.write(torn)
    assert store.read() == (a_record("first"),)
    store.append(a_record("second"))
    assert store.read() == (a_record("first"), a_record("second"))


def test_a_file_that_is_one_torn_line(store: Store) -> None:
    """Even the very first record may have been cut off."""
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b'{"run_id"')
    assert store.read() == ()
    store.append(a_record())
    assert store.read() == (a_record(),)


def test_a_disk_that_is_full() -> None:
    """The message says which record is lost, that the others are not, and what to do."""
    with pytest.raises(MachineProblem, match=r"can't record a\[cpu\] in /dev/full: No space left"):
        Store(Path("/dev/full")).append(a_record())


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """No right and no way to write is the machine's problem too."""
    (tmp_path / "cpu").touch()
    with pytest.raises(MachineProblem, match=r"the records before it are safe\. Free some space"):
        Store(tmp_path / "cpu" / "results.jsonl").append(a_record())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, for one."""
    with pytest.raises(BadInput, match=r"can't be read: Is a directory; give a file of records"):
        Store(tmp_path).read()


WRITER = """
import sys
from pathlib import Path
from tunematrix.results.record import Record
from tunematrix.results.store import Store
for number in range(50):
    name = f"{sys.argv[2]}-{number}"
    Store(Path(sys.argv[1])).append(Record("r", name, "a", "cpu", {}, "failed", "x" * 9000))
"""


def test_several_writers_lose_nothing(store: Store) -> None:
    """Each waits for the other: a line that is being written is not taken for a torn one."""
    command = [sys.executable, "-c", WRITER, str(store.path)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    expected = {f"{name}-{number}" for name in "abc" for number in range(50)}
    assert sorted(record.cell_id for record in store.read()) == sorted(expected)


def test_a_surrogate_in_a_reason(store: Store) -> None:
    """It ends neither the run nor the record."""
    store.append(replace(a_record(), reason="no file weights-\udcff.bin"))
    (record,) = store.read()
    assert record.reason == "no file weights-\\udcff.bin"


def test_the_newest_run_of_a_long_file(store: Store) -> None:
    """What is another run's is passed over; whatever may be this one's is read, or refused."""
    assert store.newest() == ()
    old, new = a_record("a", "r1"), a_record("b", "r2")
    for record in (new, old, new):
        store.append(record)
    assert store.newest() == newest_run(store.read()) == (new, new)
    text = store.path.read_bytes()
    other_order = b'{"schema_version": 4, ' + text.splitlines()[0][1:].replace(
        b', "schema_version": 4', b""
    )
    store.path.write_bytes(other_order + b"\n" + text)
    assert store.newest() == (new, new, new)
    for spoilt in (b"{}", text.splitlines()[0][:-9]):
        store.path.write_bytes(spoilt + b"\n" + text)
        with pytest.raises(BadInput, match=r"results\.jsonl:1: not a record"):
            store.newest()
        store.path.write_bytes(text + spoilt + b"\n")
        with pytest.raises(BadInput, match=r"results\.jsonl:4: not a record"):
            store.newest()


def test_newest_run() -> None:
    """The run that was recorded last, whole, even where another came between."""
    old, new = a_record("a", "r1"), a_record("b", "r2")
    assert newest_run([]) == ()
    assert newest_run([old, new]) == (new,)
    assert newest_run([new, old]) == (old,)
    assert newest_run(iter([new, old, new])) == (new, new)


def test_records_are_kept_under_the_name_of_their_machine(tmp_path: Path) -> None:
    """One file for each environment and machine; a newer run takes an older one's place."""
    machine = {"system": "Linux", "architecture": "x86_64", "gpu": "NVIDIA H200", "hardware": "x"}
    run = [replace(a_record(name), machine=machine, run_dir="runs/1") for name in "ab"]
    first = keep(run, tmp_path)
    assert first.name == "cpu-linux-x86-64-nvidia-h200.jsonl"
    assert keep(run[:1], tmp_path) == first
    (kept,) = Store(first).read()
    assert (kept.cell_id, kept.run_dir) == ("a", "")
    assert sorted(tmp_path.iterdir()) == [first]
    (tmp_path / "file").touch()
    with pytest.raises(MachineProblem, match=r"can't .* Not a directory"):
        keep(run, tmp_path / "file")
    with pytest.raises(BadInput, match="several runs"):
        keep([a_record(), a_record(run_id="another")], tmp_path)


def test_earlier_records_of_some_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of other runs, oldest first; of a long file only the end is looked at."""
    store = Store(tmp_path / "results.jsonl")
    assert store.earlier({"a"}, "5") == {}
    for run in range(6):
        for cell in ("a", "b", "b[c]"):
            store.append(Record(str(run), cell, "a.yaml", "cpu", {}, "passed"))
    found = store.earlier({"a", "b", "z"}, "5", 2)
    assert {cell: [one.run_id for one in past] for cell, past in found.items()} == {
        "a": ["3", "4"],
        "b": ["3", "4"],
    }
    assert [one.run_id for one in store.earlier({"b[c]"}, "nothing")["b[c]"]] == ["5"]
    size = store.path.stat().st_size
    monkeypatch.setattr("tunematrix.results.store._TAIL_BYTES", size // 6)
    assert [one.run_id for one in store.earlier({"b[c]"}, "nothing", 9)["b[c]"]] == ["5"]
    store.path.write_bytes(store.path.read_bytes() + b"[1]\n{}\n{torn")
    assert [one.run_id for one in store.earlier({"b[c]"}, "nothing")["b[c]"]] == ["5"]


def test_a_device_in_the_place_of_records() -> None:
    """Nothing of it is read, since it would never end."""
    assert Store(Path("/dev/zero")).earlier({"a"}, "1") == {}


def test_what_stands_in_several_files_comes_once() -> None:
    """Told by all that is in it but the folder of its evidence; nan is like itself there."""
    ran = [replace(a_record(f"a[{number}]"), metrics={"loss": math.nan}) for number in range(20)]
    copies = [replace(record, run_dir="") for record in ran]
    assert tuple(once([ran])) == tuple(ran)
    assert tuple(once([ran, copies, ran])) == tuple(ran)
    others = [replace(record, machine={"hardware": "other"}) for record in ran]
    assert len(tuple(once([ran, others]))) == 40
    # Of one file all counts: what a run has recorded twice it has run twice.
    assert len(tuple(once([[*ran, *ran]]))) == 40


def test_hardware_of_any_length_gives_a_file_name(tmp_path: Path) -> None:
    """Somebody else's record can't ask for a name that no system takes."""
    record = replace(a_record(), machine={"hardware": "x" * 5_000}, versions={"torch": "2"})
    assert len(keep([record], tmp_path).name) < 255
