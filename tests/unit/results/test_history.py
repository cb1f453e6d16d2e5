from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import python_path
from tunematrix.results import history
from tunematrix.results.head import _WHOLE
from tunematrix.results.history import History, Poured
from tunematrix.results.record import SCHEMA_VERSION, Record
from tunematrix.results.store import Store

VERIFIED = sorted((Path(__file__).parents[3] / "docs/verified").glob("*.jsonl"))
EPYC = {"system": "Linux", "hardware": "AMD EPYC"}
POUR = (
    "import sys; from pathlib import Path; from tunematrix.results.history import History\n"
    "with History(Path(sys.argv[1])) as one: one.pour(map(Path, sys.argv[2:]))"
)


def record(cell: str = "a[cpu]", run: str = "20261128-141907-abcd", **fields: Any) -> Record:
    """A record of a cell that ran."""
    given: dict[str, Any] = {"versions": {"torch": "2.13.0"}, "machine": EPYC}
    given["durations"] = {"total": 1.25}
    return Record(run, cell, "a.yaml", "cpu", {}, "passed", **{**given, **fields})


def file_of(path: Path, *records: Record) -> Path:
    """A file with those records."""
    for one in records:
        Store(path).append(one)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a history may be, in a folder that isn't there yet."""
    return tmp_path / "state" / "history.sqlite"


def test_each_record_is_kept_once(place: Path) -> None:
    """However often its file is poured in."""
    everything = tuple(one for path in VERIFIED for one in Store(path).read())
    with History(place) as past:
        assert past.pour(VERIFIED) == Poured(len(everything), 0)
        assert past.pour(reversed(VERIFIED)) == Poured(0, len(everything))
        for run in past.runs():
            whole = past.run(run.run_id, run.environment)
            mine = [one for one in everything if one.run_id == run.run_id]
            assert list(whole) == mine
            assert run.cells.total() + run.relations.total() == len(mine)
            assert run.versions and run.machine["hardware"]


def test_another_form_of_a_record_is_the_same(place: Path, tmp_path: Path) -> None:
    """Keys in another order, another folder of its run, and what schema 1 didn't have."""
    file = file_of(tmp_path / "a.jsonl", record(run_dir="here", base_id="a[cpu]", backend="cpu"))
    data: dict[str, Any] = json.loads(file.read_text())
    turned = dict(reversed({**data, "run_dir": "there"}.items()))
    new = ("base_id", "spec_digest", "backend", "overrides", "seed", "planted", "step", "faults")
    newest = ("losses", "stderr")
    older = {name: value for name, value in data.items() if name not in (*new, *newest)}
    older["schema_version"] = 1
    others = tmp_path / "others.jsonl"
    others.write_text("".join(json.dumps(one) + "\n" for one in (turned, older)))
    with History(place) as past:
        assert past.pour([file, others]) == Poured(1, 2)
        assert [one.run_dir for one in past.cells("a[cpu]")] == ["here"]


@pytest.mark.parametrize(
    "other",
    [
        {"machine": {**EPYC, "hardware": "Apple M4"}},
        {"versions": {"torch": "2.14.0"}},
        {"durations": {"total": 1.5}},
        {"metrics": {"final_loss": 0.5}},
    ],
)
def test_two_machines_with_one_name(place: Path, tmp_path: Path, other: Mapping[str, Any]) -> None:
    """Runs and cells that are called alike and were not the same are both kept."""
    files = [
        file_of(tmp_path / "a.jsonl", record()),
        file_of(tmp_path / "b.jsonl", replace(record(), **other)),
    ]
    with History(place) as past:
        assert past.pour(files) == Poured(2, 0)
        assert len(past.cells("a[cpu]")) == 2
        machines = 2 if {"machine", "versions"} & other.keys() else 1
        assert [run.cells.total() for run in past.runs()] == [2 // machines] * machines


def test_what_never_ran_belongs_to_its_run(place: Path, tmp_path: Path) -> None:
    """Though it knows of its machine no more than the hardware."""
    never = record("b[cpu]", versions={}, durations={})
    excluded = replace(never, outcome="unsupported", machine={"hardware": "AMD EPYC"})
    with History(place) as past:
        past.pour([file_of(tmp_path / "a.jsonl", record(), excluded)])
        (run,) = past.runs()
    assert (run.machine, run.versions) == (EPYC, {"torch": "2.13.0"})
    assert run.cells == {"passed": 1, "unsupported": 1}


def test_the_machine_of_a_run_in_which_nothing_ran(place: Path, tmp_path: Path) -> None:
    """What couldn't run knows it, as every other view shows."""
    never = replace(record(versions={}, durations={}), outcome="unavailable")
    with History(place) as past:
        past.pour([file_of(tmp_path / "a.jsonl", never)])
        (run,) = past.runs()
    assert (run.machine, run.versions) == (EPYC, {})


def test_a_torn_line_is_left_out(place: Path, tmp_path: Path) -> None:
    """As a killed run leaves it; once it is whole, it is taken."""
    file = file_of(tmp_path / "a.jsonl", record("a[cpu]"), record("b[cpu]"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with History(place) as past:
        assert past.pour([file]) == Poured(1, 0)
        file.write_bytes(whole)
        assert past.pour([file]) == Poured(1, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"not json", "no line of JSON"),
        (b"[1]", "no schema_version"),
        (b'{"schema_version": 2}', "run_id"),
        (b'{"schema_version": %d}' % (SCHEMA_VERSION + 1), "upgrade tunematrix"),
        (b"\xff\xfe", "no line of JSON"),
        (b"[" * 100_000, "no line of JSON"),
    ],
)
def test_what_is_no_record(place: Path, tmp_path: Path, line: bytes, words: str) -> None:
    """Its file is named with the line, and nothing of it is taken; those before it are."""
    good = file_of(tmp_path / "good.jsonl", record("good[cpu]"))
    mixed = file_of(tmp_path / "mixed.jsonl", record("a[cpu]"))
    mixed.write_bytes(mixed.read_bytes() + line + b"\n")
    with History(place) as past:
        with pytest.raises(BadInput, match=r"mixed\.jsonl:2: ") as raised:
            past.pour([good, mixed])
        assert words in str(raised.value)
        assert past.ids() == ("good[cpu]",)


def test_a_history_of_a_newer_release(place: Path) -> None:
    """Is left alone."""
    with History(place):
        pass
    base = sqlite3.connect(place)
    base.execute(f"PRAGMA user_version = {history.VERSION + 1}")
    base.close()
    with pytest.raises(BadInput, match="upgrade tunematrix"):
        History(place)


@pytest.mark.parametrize("content", ["a database", "a text"])
def test_a_file_of_something_else(tmp_path: Path, content: str) -> None:
    """Is neither read nor changed."""
    path = tmp_path / "other"
    if content == "a database":
        base = sqlite3.connect(path)
        base.execute("CREATE TABLE mine (a)")
        base.close()
    else:
        path.write_text("my own notes, which are longer than a header of SQLite is\n" * 20)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="name another file"):
        History(path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Says so, and where."""
    (tmp_path / "file").touch()
    with pytest.raises(MachineProblem, match=r"file/history\.sqlite"):
        History(tmp_path / "file" / "history.sqlite")


def pouring(place: Path, files: list[Path]) -> subprocess.Popen[bytes]:
    """A process that pours files in."""
    environ = {**os.environ, "PYTHONPATH": python_path()}
    words = [sys.executable, "-c", POUR, str(place), *map(str, files)]
    return subprocess.Popen(words, env=environ)


def test_several_writers_at_once(place: Path) -> None:
    """Wait for each other, and double nothing."""
    processes = [pouring(place, VERIFIED[shift:] + VERIFIED[:shift]) for shift in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    total = sum(len(Store(path).read()) for path in VERIFIED)
    with History(place) as past:
        assert past.pour(VERIFIED) == Poured(0, total)


def test_killed_while_it_pours(place: Path, tmp_path: Path) -> None:
    """Whole files are there or nothing of them; a later one goes on as if nothing had been."""
    lines = [line for path in VERIFIED for line in Store(path).lines()]
    chance = random.Random(0)
    files = []
    for number in range(40):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_bytes(b"".join(line + b"\n" for line in chance.sample(lines, 100)))
    ends = [sum(1 for _ in Store(file).lines()) for file in files]
    for _ in range(int(os.environ.get("TUNEMATRIX_KILLS", "4"))):
        process = pouring(place, files)
        time.sleep(chance.uniform(0.2, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if place.is_file():
            base = sqlite3.connect(place)
            assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            base.close()
    assert pouring(place, files).wait() == 0
    with History(place) as past:
        assert past.pour(files) == Poured(0, sum(ends))
        assert set(past.lines()) == {line for file in files for line in Store(file).lines()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_obstacle(place: Path, tmp_path: Path, encoding: str) -> None:
    """A record that other views take is taken here, and given back."""
    file = tmp_path / "given.jsonl"
    file.write_text(json.dumps(record().to_json()) + "\n", encoding=encoding)
    with History(place) as past:
        assert past.pour([file, file]) == Poured(1, 1)
        assert past.cells("a[cpu]") == (record(),)


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"reason": 3},
        {"checks": [{"name": "exit"}]},
        {"checks": "none"},
        {"losses": [["one", 2.0]]},
        {"seed": "first"},
    ],
)
def test_a_line_that_only_begins_like_a_record(
    place: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    """What is kept can be read again: all of a line is looked at before it is taken."""
    file = file_of(tmp_path / "a.jsonl", record("a[cpu]"))
    odd = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps(odd) + "\n")
    with History(place) as past:
        with pytest.raises(BadInput, match=r"a\.jsonl:1: not a record \("):
            past.pour([file])
        assert past.ids() == ()


def test_all_fields_of_a_record_are_looked_at() -> None:
    """One that were not would make each line be read twice."""
    assert set(_WHOLE.json_schema()["properties"]) == {field.name for field in fields(Record)}
