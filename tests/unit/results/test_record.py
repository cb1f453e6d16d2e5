from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.results.record import (
    SCHEMA_VERSION,
    Record,
    backend_of,
    machine,
    shown_option,
)

CHECKS = (
    Verdict("exit", "passed", "exit code 0", Exactly("exit code 0"), "", ""),
    Verdict("finite_loss", "failed", 2, Exactly(0), "lines", "step 3 logged nan"),
    Verdict("reload", "failed", None, None, "", "none"),
    Verdict("stderr_warning", "warned", 1, AtMost(0.5, note="the worst"), "patterns", "odd"),
)
CHECK = CHECKS[0].to_json()


def record(**fields: Any) -> Record:
    """A record with something in every field."""
    whole: dict[str, Any] = {
        "run_id": "r1",
        "cell_id": "lora[cpu-hqq-int4]",
        "spec": "configs/specs/lora.yaml",
        "environment": "cpu",
        "axes": {"method": "lora", "quantizer": ("none", "hqq-int4")},
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
        "base_id": "lora[cpu-hqq-int4]",
        "spec_digest": "0123456789abcdef",
        "backend": "cpu",
        "overrides": {"train.max_steps": 3, "a.b": 0.5, "c": True, "d": ("x", 1)},
        "seed": 3,
        "planted": "half",
        "step": None,
        "faults": ("tunematrix.faults.gradients:double",),
        "losses": ((1, 3.5), (2, 3.0)),
        "stderr": "Traceback (most recent call last):\nRuntimeError: no",
        "planned": 16,
    }
    return Record(**{**whole, **fields})


def _through_json(written: Record) -> Record:
    return Record.from_json(json.loads(json.dumps(written.to_json(), allow_nan=False)))


def test_a_record_comes_back_as_it_was() -> None:
    """Every field, through strict JSON; a count stays whole, a switch stays a switch."""
    assert _through_json(record()) == record()
    assert Record.from_json(record().to_json()) == record()
    back = _through_json(record())
    assert [type(check.measured) for check in back.checks] == [str, int, type(None), int]
    assert [type(value) for value in back.overrides.values()] == [int, float, bool, tuple]


def test_the_fields_that_others_rely_on() -> None:
    """Names are part of the format."""
    assert list(record().to_json()) == [
        *("run_id", "cell_id", "spec", "environment", "axes", "outcome", "reason", "link"),
        *("checks", "metrics", "durations", "versions", "machine", "run_dir", "arms"),
        *("base_id", "spec_digest", "backend", "overrides", "seed", "planted", "step"),
        *("faults", "losses", "stderr", "planned", "schema_version"),
    ]
    assert list(record().to_json()["checks"][0]) == [
        *("name", "outcome", "measured", "bound", "unit", "message"),
    ]


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_that_json_lacks(figure: float) -> None:
    """They are written as text and come back as the figures they are."""
    check = Verdict("gap_closed", "failed", figure, AtLeast(0.9), "of the gap", "diverged")
    kinds: dict[str, Any] = {"metrics": {"gap_closed": figure}, "durations": {"total": figure}}
    odd = record(checks=(check,), losses=((1, figure),), **kinds)
    assert odd.to_json()["metrics"] == {"gap_closed": str(figure)}
    back = _through_json(odd)
    for restored in (
        back.checks[0].measured,
        back.metrics["gap_closed"],
        back.durations["total"],
        back.losses[0][1],
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
        {"outcome": "splendid"},
        {"outcome": ["passed"]},
        {"cell_id": 3},
        {"cell_id": None},
        {"reason": {}},
        {"axes": []},
        {"axes": {"method": 3}},
        {"axes": {"method": [3]}},
        {"versions": {"torch": 2}},
        {"machine": "mine"},
        {"arms": "ab"},
        {"arms": [1]},
        {"seed": "three"},
        {"seed": 1.5},
        {"overrides": {"train": {"max_steps": 1}}},
        {"run_id": []},
        {"checks": [3]},
        {"checks": [{"name": "exit"}]},
        {"checks": [{**CHECK, "measured": []}]},
        {"checks": [{**CHECK, "outcome": "splendid"}]},
        {"checks": [{**CHECK, "colour": "red"}]},
        {"checks": [{**CHECK, "bound": 3}]},
        {"checks": [{**CHECK, "bound": {}}]},
        {"checks": [{**CHECK, "bound": {"kind": "splendid"}}]},
        {"checks": [{**CHECK, "bound": {"kind": []}}]},
        {"checks": [{**CHECK, "bound": {"kind": "at_most"}}]},
        {"checks": [{**CHECK, "bound": {"kind": "at_most", "limit": "x"}}]},
        {"checks": [{**CHECK, "bound": {"kind": "at_most", "limit": 1, "colour": "red"}}]},
        {"checks": [{**CHECK, "bound": {"kind": "exactly", "value": []}}]},
        {"metrics": {"seconds": "three"}},
        {"metrics": []},
        {"checks": 3},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    """Unknown, missing and malformed fields are not passed over."""
    with pytest.raises(ValidationError):
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


def test_what_utf_8_lacks_is_escaped() -> None:
    """A message may name a file whose name is no text; its record is written all the same."""
    odd = record(reason="no such file: weights-\udcff.bin", machine={"\ud800": ["\udcff"]})
    line = json.dumps(odd.to_json(), ensure_ascii=False).encode()
    back = Record.from_json(json.loads(line))
    assert back.reason == "no such file: weights-\\udcff.bin"
    assert back.machine == {"\\ud800": ["\\udcff"]}


def test_options_as_people_read_them() -> None:
    """Several of one axis stand side by side."""
    assert shown_option("lora") == "lora"
    assert shown_option(("lora", "full")) == "lora|full"
    assert backend_of({"backend": "mlx", "method": ("lora", "full")}) == "mlx"
    assert backend_of({}) == ""


def test_the_day_of_a_run() -> None:
    """Its name begins with it; one that is called otherwise has none."""
    assert record(run_id="20261128-141907-05ae").date == "2026-11-28"
    assert record(run_id="r1").date == ""


def test_the_same_cell_without_what_is_planted() -> None:
    """Under the same seed."""
    assert record().honest_id == "lora[cpu-hqq-int4]@3"


def test_the_machine_is_described_without_its_name() -> None:
    """Records travel, so they don't say whose machine it was."""
    assert set(machine()) == {"system", "architecture", "hardware", "python", "cores"}
