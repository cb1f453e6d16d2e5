from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.results.record import SCHEMA_VERSION, Record
from tunematrix.results.store import Store, keep, newest_run


def _record(cell_id: str = "a[cpu]", run_id: str = "r1") -> Record:
    return Record(run_id, cell_id, "a.yaml", "cpu", {"method": "lora"}, "passed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder that isn't there yet."""
    return Store(tmp_path / ".tunematrix" / "cpu" / "results.jsonl")


def test_records_come_back_in_order(store: Store) -> None:
    """Appended one after the other, read oldest first."""
    records = tuple(_record(f"cell {number}") for number in range(3))
    for record in records:
        store.append(record)
    assert store.read() == records


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
    store.append(_record())
    assert "größer als ≤ 3" in store.path.read_text(encoding="utf-8")
    assert store.read() == (record, _record())


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_line_is_left_out(store: Store, cut: int) -> None:
    """A killed run loses the record it was writing, and no other."""
    store.append(_record("first"))
    store.append(_record("second"))
    os.truncate(store.path, store.path.stat().st_size - cut)
    assert store.read() == (_record("first"),)


@pytest.mark.parametrize("torn", [b'{"run_id": "r1", "ce', '{"reason": "≤'.encode()[:-1]])
def test_the_next_record_begins_on_a_line_of_its_own(store: Store, torn: bytes) -> None:
    """It would be lost otherwise, and everything before it unreadable."""
    store.append(_record("first"))
    with store.path.open("ab") as file:
        file.write(torn)
    assert store.read() == (_record("first"),)
    store.append(_record("second"))
    assert store.read() == (_record("first"), _record("second"))


def test_a_file_that_is_one_torn_line(store: Store) -> None:
    """Even the very first record may have been cut off."""
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b'{"run_id"')
    assert store.read() == ()
    store.append(_record())
    assert store.read() == (_record(),)


def test_a_disk_that_is_full() -> None:
    """The message says which record is lost, that the others are not, and what to do."""
    with pytest.raises(MachineProblem, match=r"can't record a\[cpu\] in /dev/full: No space left"):
        Store(Path("/dev/full")).append(_record())


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """No right and no way to write is the machine's problem too."""
    (tmp_path / "cpu").touch()
    with pytest.raises(MachineProblem, match=r"the records before it are safe\. Free some space"):
        Store(tmp_path / "cpu" / "results.jsonl").append(_record())


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None])
def test_another_schema_is_refused(store: Store, version: object) -> None:
    """By its number and line, before its fields are looked at."""
    store.append(_record())
    with store.path.open("a") as file:
        file.write(json.dumps({"schema_version": version, "cells": 3}) + "\n")
    expected = rf"results\.jsonl:2: schema {version}, this version reads {SCHEMA_VERSION}: use the"
    with pytest.raises(BadInput, match=expected):
        store.read()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '"text"',
        "{}",
        '{"schema_version": 1}',
        '{"schema_version": 1, "checks": [], "metrics": {}, "durations": {}, "colour": 1}',
        '{"schema_version": 1, "checks": [], "metrics": [], "durations": {}}',
        "\udcff",
    ],
)
def test_a_whole_line_that_is_no_record(store: Store, line: str) -> None:
    """It is refused with its line, not left out: someone else wrote to the file."""
    store.append(_record())
    with store.path.open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    store.append(_record())
    with pytest.raises(BadInput, match=r"results\.jsonl:2: not a record \(.*remove the line or"):
        store.read()


def test_newest_run() -> None:
    """The run that was recorded last, whole, even where another came between."""
    old, new = _record("a", "r1"), _record("b", "r2")
    assert newest_run([]) == ()
    assert newest_run([old, new]) == (new,)
    assert newest_run([new, old]) == (old,)
    assert newest_run(iter([new, old, new])) == (new, new)


def test_records_are_kept_under_the_name_of_their_machine(tmp_path: Path) -> None:
    """One file for each environment and machine; a newer run takes an older one's place."""
    machine = {"system": "Linux", "architecture": "x86_64", "gpu": "NVIDIA H200", "hardware": "x"}
    run = [replace(_record(name), machine=machine, run_dir="runs/1") for name in "ab"]
    first = keep(run, tmp_path)
    assert first.name == "cpu-linux-x86-64-nvidia-h200.jsonl"
    assert keep(run[:1], tmp_path) == first
    (kept,) = Store(first).read()
    assert (kept.cell_id, kept.run_dir) == ("a", "")
    assert sorted(tmp_path.iterdir()) == [first]
    with pytest.raises(BadInput, match="several runs"):
        keep([_record(), _record(run_id="another")], tmp_path)
