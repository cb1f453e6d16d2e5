from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.report.rows import SYMBOLS
from tunematrix.report.terminal import failure, figures, render, summary
from tunematrix.results.record import Outcome, Record

QUANTIZERS = (
    *("none", "bnb-nf4", "bnb-int8", "hqq-int4", "hqq-int8"),
    *("quanto-int4", "quanto-int8", "torchao-int4", "torchao-int8"),
)
AGAIN = "nox -s cpu -- 'a.yaml::a[cpu]'"
MOVED = Verdict("moved", "failed", 3, "4", "tensors", "1 of 4 never moved; likely a rate of 0")
GAP = Verdict("gap_closed", "passed", 0.9, ">= 0.8", "share", "")
RELOAD = Verdict("reload", "failed", 7.4123456789, "<= 0.5", "logits", "a tensor wasn't saved")


def _record(outcome: Outcome = "passed", **fields: Any) -> Record:
    fields.setdefault("axes", {"method": "lora", "quantizer": "none"})
    if "gap_closed" in fields.get("metrics", {}):
        fields["checks"] = (*fields.get("checks", ()), GAP)
    return Record("r", "a[cpu]", "a.yaml", "cpu", outcome=outcome, **fields)


def _suite() -> list[Record]:
    metrics = {"seconds": 112.04, "process_peak_mb": 1331.4, "gap_closed": 0.913}
    return [
        _record(axes={"method": method, "quantizer": quantizer}, metrics=metrics)
        for method in ("full", "lora", "dora", "custom-lora")
        for quantizer in QUANTIZERS
    ]


def _text(*records: Record, width: int = 80, colour: bool = False) -> str:
    return render(summary(records), width, colour=colour)


def _table_rows(*records: Record) -> list[str]:
    """What stands below the table's heading."""
    lines = _text(*records).splitlines()
    return lines[next(number for number, line in enumerate(lines) if "──" in line) + 1 :]


def test_failure_has_all_its_parts() -> None:
    """What was measured, the bound, the cause, where the evidence is, how to repeat it."""
    reason = f"moved: {MOVED.message} (and 1 more)"
    run_dir = ".tunematrix/cpu/runs/r/a"
    record = _record("failed", reason=reason, checks=(MOVED, RELOAD), run_dir=run_dir)
    assert failure(record, AGAIN).splitlines() == [
        "moved: measured 3 tensors, bound 4",
        "  because  1 of 4 never moved; likely a rate of 0",
        "reload: measured 7.41235 logits, bound <= 0.5",
        "  because  a tensor wasn't saved",
        "evidence:  .tunematrix/cpu/runs/r/a",
        f"run again: {AGAIN}",
    ]


def test_failure_without_a_failed_check() -> None:
    """An error, or a known failure that works by now, has its reason alone."""
    lines = failure(_record("error", reason="the disk is full"), AGAIN).splitlines()
    assert lines == ["the disk is full", f"run again: {AGAIN}"]


def test_failure_of_an_expectation() -> None:
    """Where another failure was expected, that is said before what was found."""
    reason = "expected check reload and nothing else, got moved: 1 of 4"
    lines = failure(_record("failed", reason=reason, checks=(MOVED,)), AGAIN).splitlines()
    assert lines[:2] == [reason, "moved: measured 3 tensors, bound 4"]


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        (None, "nothing"),
        (math.nan, "nan lines"),
        (math.inf, "inf lines"),
        ("SIGKILL", "SIGKILL lines"),
    ],
)
def test_measured_figures_of_every_kind(measured: float | str | None, shown: str) -> None:
    """Absent, not finite, or a text."""
    unit = "" if measured is None else "lines"
    check = Verdict("x", "failed", measured, "0", unit, "why")
    assert f"x: measured {shown}, bound 0\n" in failure(_record("failed", checks=(check,)), AGAIN)


def test_passed_and_warned_checks_are_no_part_of_a_failure() -> None:
    """Only what failed is shown."""
    quiet = (
        Verdict("exit", "passed", "exit code 0", "exit code 0", "", ""),
        Verdict("stderr_warning", "warned", 1, "0", "patterns", "odd"),
    )
    text = failure(_record("failed", checks=(*quiet, MOVED)), AGAIN)
    assert "exit" not in text and "odd" not in text


def test_figures() -> None:
    """Those that there are."""
    metrics = {"seconds": 3.14, "process_peak_mb": 64.4, "gap_closed": 0.913, "logit_error": 0.1}
    assert figures(_record(metrics=metrics)) == "3.1 s, 64 MB, gap 91%"
    assert figures(_record(metrics={"gap_closed": 0.0})) == "gap 0%"
    assert figures(_record()) == ""


def test_a_diverged_cell_can_be_shown() -> None:
    """Its figures came through JSON, where nan is a text."""
    record = _record("failed", checks=(MOVED,), metrics={"gap_closed": math.nan, "seconds": 1.0})
    back = Record.from_json(record.to_json())
    assert figures(back) == "1.0 s, gap nan%"
    assert "✗ nan%" in _text(back)


@pytest.mark.parametrize(("outcome", "symbol"), SYMBOLS.items())
def test_symbols(outcome: Outcome, symbol: str) -> None:
    """Each outcome is in the matrix and in the legend, by its symbol and its name."""
    text = _text(_record(outcome))
    square = next(line for line in text.splitlines() if line.startswith("  none"))
    assert square.split() == ["none", symbol]
    assert f"{symbol} 1 {outcome.replace('_', ' ')}" in text


def test_a_square_of_several_cells() -> None:
    """How many passed, the smallest share, the longest cell and the largest growth."""
    metrics = {"seconds": 3.0, "process_peak_mb": 64.0, "gap_closed": 0.913}
    slower = {"seconds": 4.0, "process_peak_mb": 32.0, "gap_closed": 0.95}
    text = _text(_record(metrics=metrics), _record(metrics=slower))
    assert "✓ 2 91%" in text
    assert "4.0s 64MB" in text


@pytest.mark.parametrize(
    ("metrics", "lines"),
    [
        ({}, ["none ✓"]),
        ({"gap_closed": 0.9}, ["none ✓ 90%"]),
        ({"seconds": 3.0}, ["none ✓", "3.0s"]),
        ({"process_peak_mb": 64.0}, ["none ✓", "64MB"]),
    ],
)
def test_a_square_takes_no_more_lines_than_it_needs(
    metrics: dict[str, float], lines: list[str]
) -> None:
    """A figure that wasn't measured leaves no gap."""
    rows = [" ".join(row.split()) for row in _table_rows(_record(metrics=metrics))]
    assert rows[: len(lines) + 1] == [*lines, ""]


def test_pairs_that_were_not_planned_are_empty() -> None:
    """Nothing was tested there, and nothing is shown."""
    full = _record(axes={"method": "full", "quantizer": "none"})
    lora = _record(axes={"method": "lora", "quantizer": "hqq-int4"})
    first, second = _table_rows(full, lora)[:2]
    assert (first.split(), second.split()) == (["none", "✓"], ["hqq-int4", "✓"])
    assert first.index("✓") < second.index("✓")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_figure_has_room(width: int) -> None:
    """All four methods and nine quantizers, on a terminal of any usual width."""
    text = _text(*_suite(), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    for quantizer in QUANTIZERS:
        assert quantizer in text
    for figure in ("✓ 91%", "112.0s", "1331MB"):
        assert text.count(figure) == 36


def test_reasons_with_their_links() -> None:
    """Each reason once, with the cells it is about; an absent link leaves no brackets."""
    linked = _record("unsupported", reason="no gradient", link="https://e.org/1")
    bare = _record("known_failure", reason="no kernel")
    text = _text(linked, linked, bare, width=200)
    assert "· unsupported ×2: no gradient <https://e.org/1>: a[cpu], a[cpu]\n" in text
    assert "≈ known failure ×1: no kernel: a[cpu]\n" in text


def test_text_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs get no escape codes, whatever the surroundings say."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    records = [_record(outcome, metrics={"seconds": 1.0, "gap_closed": 0.9}) for outcome in SYMBOLS]
    assert "\x1b" not in _text(*records)


def test_text_with_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has colours gets them, and the same words."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m✗" in _text(_record("failed"), colour=True)


def test_names_are_no_markup() -> None:
    """Brackets in ids and reasons are shown, not taken for styles."""
    odd = _record("unsupported", reason="[bold]no[/bold] [/]")
    assert "[bold]no[/bold] [/]: a[cpu]" in _text(odd)


SAME = Verdict("same_gradients_mean", "passed", 2.5e-8, "<= 1e-06", "of the mean size", "at q")


def _relation(check: Verdict = SAME, outcome: Outcome = "passed", **fields: Any) -> Record:
    fields = {"checks": (check,), "arms": ("a[cpu-x]", "a[cpu-y]", "a[cpu-x]"), **fields}
    return _record(outcome, **fields)


def test_relations_have_a_table_of_their_own() -> None:
    """With outcome, nearest check, figure, tolerance and how far they are apart."""
    lines = [" ".join(line.split()) for line in _text(_record(), _relation()).splitlines()]
    assert lines.index("none ✓") < lines.index("relations")
    first = lines.index("✓ a[cpu] 2.5e-08 1e-06 40×")
    assert lines[first + 1] == "same_gradients_mean"
    assert "✓ 2 passed" in lines
    assert "relations" not in _text(_record())
    assert "none" not in _text(_relation())


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        (replace(SAME, measured=0.0, bound="<= 0"), "0 0 exact"),
        (replace(SAME, measured=math.inf, outcome="failed"), "inf 1e-06 0×"),
        (replace(SAME, measured=None, bound="a record of gradients"), "nothing"),
        (replace(SAME, measured=0.3, bound="0.2 to 0.4"), "0.3 0.2 to 0.4"),
    ],
)
def test_rows_of_relations(check: Verdict, shown: str) -> None:
    """Also where nothing was measured; the warning that nothing is recorded is none of them."""
    unrecorded = Verdict("tolerances", "warned", None, "a row", "", "nothing is recorded")
    lines = _text(_relation(check, "failed", checks=(check, unrecorded))).splitlines()
    assert f"✗ a[cpu] {shown}" in [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_long_names_of_relations_are_folded(width: int) -> None:
    """Every letter of them is there, and so is every figure."""
    name = "same-accumulation[cpu-custom-lora-bnb-nf4-prompt-completion]"
    lines = _text(replace(_relation(), cell_id=name), width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).split()
    for figure in ("✓", "2.5e-08", "1e-06", "40×"):
        words.remove(figure)
    assert f"{name}same_gradients_mean" in "".join(words)


def test_figures_of_a_relation() -> None:
    """The check that is nearest to its bound."""
    assert figures(_relation()) == "same_gradients_mean 2.5e-08, <= 1e-06"


def test_failure_of_a_relation_names_its_arms() -> None:
    """Each once: there is no folder with evidence of its own."""
    check = replace(SAME, outcome="failed")
    record = _relation(check, "failed", reason="same_gradients_mean: at q")
    assert failure(record, AGAIN).splitlines()[-2:] == [
        "arms:      a[cpu-x], a[cpu-y]",
        f"run again: {AGAIN}",
    ]
