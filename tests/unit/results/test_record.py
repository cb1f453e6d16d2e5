from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.results.record import SCHEMA_VERSION, Record, machine

CHECKS = (
    Verdict("exit", "passed", "exit code 0", "exit code 0", "", ""),
    Verdict("finite_loss", "failed", 2, "0", "lines", "step 3 logged nan"),
    Verdict("reload", "failed", None, "a record of a reloaded model", "", "none"),
    Verdict("stderr_warning", "warned", 1, "0", "patterns", "odd"),
)


def record(**fields: Any) -> Record:
    """A record with something in every field."""
    whole: dict[str, Any] = {
        "run_id": "r1",
        "cell_id": "lora[cpu-hqq-int4]",
        "spec": "configs/specs/lora.yaml",
        "environment": "cpu",
        "axes": {"method": "lora", "quantizer": "hqq-int4"},
        "outcome": "failed",
        "reason": "finite_loss: step 3 logged nan",
        "link": "https://example.org",
        "checks": CHECKS,
        "metrics": {"gap_closed": 0.9, "seconds": 3.0},
        "durations": {"train": 2.5, "total": 3.0},
        "versions": {"torch": "2.13.0"},
        "machine": {"cores": 2, "memory_methods": {"process_peak": "VmHWM"}, "flags": [1, None]},
        "run_dir": ".tunematrix/cpu/runs/r1/lora",
        "arms": ("lora[cpu-1x8]", "lora[cpu-8x1]"),
    }
    return Record(**{**whole, **fields})


def _through_json(one: Record) -> Record:
    return Record.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))


def test_a_record_comes_back_as_it_was() -> None:
    """Every field, through strict JSON."""
    assert _through_json(record()) == record()
    assert Record.from_json(record().to_json()) == record()


def test_the_fields_that_others_rely_on() -> None:
    """Names are part of the format."""
    assert list(record().to_json()) == [
        *("run_id", "cell_id", "spec", "environment", "axes", "outcome", "reason", "link"),
        *("checks", "metrics", "durations", "versions", "machine", "run_dir", "arms"),
        "schema_version",
    ]
    assert list(record().to_json()["checks"][0]) == [
        *("name", "outcome", "measured", "bound", "unit", "message"),
    ]


def test_records_from_before_there_were_relations() -> None:
    """They are cells."""
    data = record().to_json()
    del data["arms"]
    assert Record.from_json(data) == record(arms=())


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_that_json_lacks(figure: float) -> None:
    """They are written as text and come back as the figures they are."""
    check = Verdict("gap_closed", "failed", figure, ">= 0.9", "share", "diverged")
    odd = record(checks=(check,), metrics={"gap_closed": figure}, durations={"total": figure})
    assert odd.to_json()["metrics"] == {"gap_closed": str(figure)}
    back = _through_json(odd)
    for restored in (
        back.checks[0].measured,
        back.metrics["gap_closed"],
        back.durations["total"],
    ):
        assert isinstance(restored, float)
        assert str(restored) == str(figure)


def test_figures_deep_inside() -> None:
    """A determinant may hold one too; strict JSON takes the record all the same."""
    deep = record(machine={"a": [math.nan, {"b": math.inf}], "c": (1.5,)})
    assert json.loads(json.dumps(deep.to_json(), allow_nan=False))["machine"] == {
        "a": ["nan", {"b": "inf"}],
        "c": [1.5],
    }


def test_whole_figures_are_floats_again() -> None:
    """Other programs may write 3 for 3.0."""
    data = record().to_json()
    data["metrics"] = {"seconds": 3}
    assert isinstance(Record.from_json(data).metrics["seconds"], float)


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"checks": [{"name": "exit"}]},
        {"checks": [{**CHECKS[0].__dict__, "colour": "red"}]},
        {"metrics": {"seconds": "three"}},
        {"metrics": []},
        {"checks": 3},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    """Unknown, missing and malformed fields are not passed over."""
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Record.from_json({**record().to_json(), **change})


def test_failed_checks() -> None:
    """Those that failed, in their order; a warning is none."""
    assert [check.name for check in record().failed_checks] == ["finite_loss", "reload"]


def test_a_record_of_a_cell_that_never_ran() -> None:
    """An exclusion has no more than its reason."""
    bare = Record("r1", "a[cpu]", "a.yaml", "cpu", {}, "unsupported", "because")
    assert _through_json(bare) == bare
    assert bare.schema_version == SCHEMA_VERSION
    assert bare.failed_checks == ()


def test_the_machine_is_described_without_its_name() -> None:
    """Records travel, so they don't say whose machine it was."""
    assert set(machine()) == {"system", "architecture", "hardware", "python", "cores"}
