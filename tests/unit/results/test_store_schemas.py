from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.results.conftest import a_record

from tunematrix.errors import BadInput
from tunematrix.results.record import SCHEMA_VERSION
from tunematrix.results.store import Store


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 10**30])
def test_a_newer_schema_is_refused(store: Store, version: int) -> None:
    """By its number and line, before its fields are looked at; it says what to do."""
    store.append(a_record())
    with store.path.open("a") as file:
        file.write(json.dumps({"schema_version": version, "cells": 3}) + "\n")
    with pytest.raises(BadInput) as caught:
        store.read()
    assert str(caught.value) == (
        f"{store.path}:2: a record of schema {version}, and this tunematrix reads those up to "
        f"{SCHEMA_VERSION}; upgrade tunematrix, or read the file with the one that wrote it"
    )


@pytest.mark.parametrize("version", [0, -1, "1", "2", None, True, 1.0, [2]])
def test_what_is_no_schema(store: Store, version: object) -> None:
    """Something else wrote the line."""
    store.path.parent.mkdir(parents=True)
    store.path.write_text(json.dumps({**a_record().to_json(), "schema_version": version}) + "\n")
    with pytest.raises(
        BadInput, match=r"results\.jsonl:1: not a record \(it has no schema_version"
    ):
        store.read()


def test_each_wrong_field_is_named(store: Store) -> None:
    """The first few, with what is wrong with each."""
    wrong = {"outcome": "splendid", "reason": 3, "metrics": {"seconds": "x"}, "arms": 1}
    store.path.parent.mkdir(parents=True)
    store.path.write_text(json.dumps({**a_record().to_json(), **wrong}) + "\n")
    with pytest.raises(BadInput) as caught:
        store.read()
    text = str(caught.value)
    assert text.startswith(f"{store.path}:1: not a record (outcome: Input should be 'passed', ")
    assert "; reason: Input should be a valid string; metrics.seconds: " in text
    assert text.endswith("; and 1 more); remove the line, or give another file")


CHECK = {"name": "a", "outcome": "passed", "measured": 1, "unit": "", "message": ""}
V1 = {
    "run_id": "20261122-212353-d8e3",
    "cell_id": "same[cpu-bnb-nf4]@3!half_rate",
    "spec": "configs/specs/same.yaml",
    "environment": "cpu",
    "axes": {"method": "full|lora", "backend": "cpu"},
    "outcome": "passed",
    "reason": "",
    "link": "",
    "checks": [],
    "metrics": {},
    "durations": {},
    "versions": {},
    "machine": {},
    "run_dir": "",
    "arms": ["x", "y"],
    "schema_version": 1,
}


def test_records_of_schema_1(store: Store) -> None:
    """What their texts held is data; what they never held is empty."""
    store.path.parent.mkdir(parents=True)
    plain = {**V1, "cell_id": "a[cpu]", "axes": {"method": "lora", "backend": "cpu"}}
    del plain["arms"]
    store.path.write_text(f"{json.dumps(V1)}\n{json.dumps(plain)}\n")
    relation, cell = store.read()
    assert (relation.base_id, relation.seed, relation.planted) == (
        "same[cpu-bnb-nf4]",
        3,
        "half_rate",
    )
    assert relation.axes == {"method": ("full", "lora"), "backend": "cpu"}
    assert (relation.backend, relation.schema_version) == ("cpu", SCHEMA_VERSION)
    assert (relation.spec_digest, relation.overrides, relation.step) == ("", {}, None)
    assert (cell.cell_id, cell.base_id, cell.seed, cell.planted) == ("a[cpu]", "a[cpu]", None, "")
    assert (cell.axes["method"], cell.arms) == ("lora", ())


def test_records_of_schema_2(store: Store) -> None:
    """They had neither losses nor the end of stderr; all else is the same."""
    data = a_record().to_json()
    del data["losses"], data["stderr"]
    store.path.parent.mkdir(parents=True)
    store.path.write_text(json.dumps({**data, "schema_version": 2}) + "\n")
    assert store.read() == (a_record(),)


@pytest.mark.parametrize(
    "change",
    [
        {"cell_id": 3},
        {"cell_id": None},
        {"axes": []},
        {"axes": {"method": 3}},
        {"outcome": "splendid"},
        {"seed": "three"},
        {"colour": "red"},
        {"checks": [{**CHECK, "bound": {"kind": "\ud800"}}]},
    ],
)
def test_malformed_records_of_schema_1(store: Store, change: dict[str, object]) -> None:
    """They are refused with their line as well."""
    store.path.parent.mkdir(parents=True)
    store.path.write_text(json.dumps({**V1, **change}) + "\n")
    with pytest.raises(BadInput, match=r"results\.jsonl:1: not a record \("):
        store.read()


def test_committed_records_are_read() -> None:
    """Those of schema 1, too, with the backend of each."""
    for file in sorted((Path(__file__).parents[3] / "docs/verified").glob("*.jsonl")):
        records = Store(file).read()
        assert len(records) > 50
        assert {record.backend for record in records} == {records[0].environment}


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
        '{"schema_version": 2}',
        '{"schema_version": 1, "checks": [], "metrics": {}, "durations": {}, "colour": 1}',
        "[" * 100_000,
        "1" * 5_000,
        '{"schema_version": 1, "checks": [], "metrics": [], "durations": {}}',
        "\udcff",
    ],
)
def test_a_whole_line_that_is_no_record(store: Store, line: str) -> None:
    """It is refused with its line, not left out: someone else wrote to the file."""
    store.append(a_record())
    with store.path.open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    store.append(a_record())
    with pytest.raises(BadInput, match=r"results\.jsonl:2: not a record \(.*remove the line, or"):
        store.read()
