"""What is shown of a single record: how it failed, how to repeat it, its figures, its relation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.report.shown import AGAIN, SAME, a_record, as_text, rows_of

from tunematrix.checks.bound import AtLeast, AtMost, Between, Bound, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.report.again import run_again
from tunematrix.report.terminal import failure, figures, rounded
from tunematrix.results.record import Outcome, Record

MOVED = Verdict(
    "moved", "failed", 3, Exactly(4), "tensors", "1 of 4 never moved; likely a rate of 0"
)
RELOAD = Verdict("reload", "failed", 7.4123456789, AtMost(0.5), "logits", "a tensor wasn't saved")


def test_failure_has_all_its_parts() -> None:
    """What was measured, the bound, the cause, where the evidence is, how to repeat it."""
    reason = f"moved: {MOVED.message} (and 1 more)"
    run_dir = ".tunematrix/cpu/runs/r/a"
    record = a_record("failed", reason=reason, checks=(MOVED, RELOAD), run_dir=run_dir)
    assert failure(record, AGAIN).splitlines() == [
        "moved: measured 3 tensors, bound 4",
        "  because  1 of 4 never moved; likely a rate of 0",
        "reload: measured 7.41 logits, bound <= 0.5",
        "  because  a tensor wasn't saved",
        "evidence:  .tunematrix/cpu/runs/r/a",
        f"run again: {AGAIN}",
    ]


def test_a_figure_just_beyond_its_bound() -> None:
    """It is shown with as many digits as tell it from the bound, whose own are as many."""
    near = Verdict("reload", "failed", 0.500041, AtMost(0.5000001), "logits", "why")
    shown = failure(a_record("failed", reason="reload: why", checks=(near,)), AGAIN)
    assert shown.startswith("reload: measured 0.50004 logits, bound <= 0.5\n")
    share = replace(near, measured=0.0163123, bound=AtLeast(0.8123456))
    shown = failure(a_record("failed", reason="reload: why", checks=(share,)), AGAIN)
    assert shown.startswith("reload: measured 0.0163 logits, bound >= 0.812\n")


@pytest.mark.parametrize("bound", [AtLeast(-math.inf), AtMost(math.nan), Exactly("a"), Exactly(3)])
def test_bounds_that_keep_their_digits(bound: Bound) -> None:
    """Whole numbers, texts, and what isn't finite."""
    assert str(rounded(bound)) == str(bound)


def test_failure_without_a_failed_check() -> None:
    """An error, or a known failure that works by now, has its reason alone."""
    lines = failure(a_record("error", reason="the disk is full"), AGAIN).splitlines()
    assert lines == ["the disk is full", f"run again: {AGAIN}"]


def test_failure_of_an_expectation() -> None:
    """Where another failure was expected, that is said before what was found."""
    reason = "expected check reload and nothing else, got moved: 1 of 4"
    lines = failure(a_record("failed", reason=reason, checks=(MOVED,)), AGAIN).splitlines()
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
    check = Verdict("x", "failed", measured, Exactly(0), unit, "why")
    assert f"x: measured {shown}, bound 0\n" in failure(a_record("failed", checks=(check,)), AGAIN)


def test_passed_and_warned_checks_are_no_part_of_a_failure() -> None:
    """Only what failed is shown."""
    quiet = (
        Verdict("exit", "passed", "exit code 0", Exactly("exit code 0"), "", ""),
        Verdict("stderr_warning", "warned", 1, Exactly(0), "patterns", "odd"),
    )
    text = failure(a_record("failed", checks=(*quiet, MOVED)), AGAIN)
    assert "exit" not in text and "odd" not in text


def test_figures() -> None:
    """Those that there are."""
    metrics = {"seconds": 3.14, "process_peak_mb": 64.4, "gap_closed": 0.913, "logit_error": 0.1}
    assert figures(a_record(metrics=metrics)) == "3.1 s, 64 MB, gap 91%"
    assert figures(a_record(metrics={"gap_closed": 0.0})) == "gap 0%"
    assert figures(a_record()) == ""


def test_a_diverged_cell_can_be_shown() -> None:
    """Its figures came through JSON, where nan is a text."""
    record = a_record("failed", checks=(MOVED,), metrics={"gap_closed": math.nan, "seconds": 1.0})
    back = Record.from_json(record.to_json())
    assert figures(back) == "1.0 s, gap nan%"
    assert rows_of(as_text(back)) == ["✗ sft lora none ✗1 nan% 1.0 s"]


def test_the_command_that_repeats_a_record() -> None:
    """With all that its id alone doesn't plan."""
    odd = replace(a_record(), cell_id="a[cpu]@3!half", seed=3, planted="half")
    assert run_again(odd) == ("tunematrix run -e cpu 'a.yaml::a[cpu]@3!half' --seeds=4 -m planted")


def test_the_command_repeats_the_faults_of_a_record() -> None:
    """In a session of Nox as well; there Nox names the environment."""
    record = replace(a_record("failed"), faults=("tunematrix.faults.gradients:double",))
    fault = "--fault=tunematrix.faults.gradients:double"
    assert run_again(record) == f"tunematrix run -e cpu 'a.yaml::a[cpu]' {fault}"
    assert run_again(record, session="cpu") == f"nox -s cpu -- 'a.yaml::a[cpu]' {fault}"
    assert f"  tunematrix run -e cpu 'a.yaml::a[cpu]' {fault}\n" in as_text(record)


def _relation(check: Verdict = SAME, outcome: Outcome = "passed", **fields: Any) -> Record:
    fields = {"checks": (check,), "arms": ("a[cpu-x]", "a[cpu-y]", "a[cpu-x]"), **fields}
    return a_record(outcome, **fields)


def test_relations_are_counted_or_listed() -> None:
    """In short, how many and which is nearest to its bound; on request, each with its figures."""
    far = replace(_relation(), cell_id="b[cpu]", checks=(replace(SAME, measured=1e-9),))
    short = as_text(a_record(), _relation(), far)
    nearest = "  nearest to its bound: same_gradients_mean of a[cpu], 98% left\n"
    assert f"relations: ✓ 2 passed\n{nearest}" in short
    assert rows_of(short) == ["✓ sft lora none ✓1"]
    whole = as_text(a_record(), _relation(), far, whole=True, width=100)
    assert (
        "✓  a[cpu]\n"
        "   same_gradients_mean: measured 2.5e-08 of the mean size, bound <= 1e-06, 98% left\n"
    ) in whole
    assert "relations" not in as_text(a_record(), whole=True)
    assert "quantizer" not in as_text(_relation(), whole=True)


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        (replace(SAME, measured=0.0, bound=AtMost(0)), "measured 0, bound <= 0"),
        (replace(SAME, measured=math.inf, outcome="failed"), "measured inf, bound <= 1e-06"),
        (replace(SAME, measured=0.5, outcome="failed"), "measured 0.5, bound <= 1e-06"),
        (replace(SAME, measured=None, bound=None), "measured nothing"),
        (replace(SAME, measured=0.3, bound=Between(0.2, 0.4)), "0.3, bound 0.2 to 0.4, 100% left"),
    ],
)
def test_rows_of_relations(check: Verdict, shown: str) -> None:
    """Also where nothing was measured; the warning that nothing is recorded is none of them."""
    check = replace(check, unit="")
    unrecorded = Verdict("tolerances", "warned", None, None, "", "nothing is recorded")
    relation = _relation(check, "failed", checks=(check, unrecorded))
    lines = as_text(relation, whole=True).splitlines()
    assert lines[lines.index("✗  a[cpu]") + 1].endswith(shown)


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
