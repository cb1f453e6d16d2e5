from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.checks.bound import AtLeast, AtMost, Between, Bound, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.report.again import run_again
from tunematrix.report.ending import ending
from tunematrix.report.rows import SYMBOLS
from tunematrix.report.terminal import failure, figures, render, report, rounded
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

METHODS = ("full", "lora", "dora", "custom-lora")
QUANTIZERS = (
    *("none", "bnb-int8", "bnb-nf4", "hqq-int4", "hqq-int8"),
    *("quanto-int4", "quanto-int8", "torchao-int4", "torchao-int8"),
)
AGAIN = "nox -s cpu -- 'a.yaml::a[cpu]'"
MOVED = Verdict(
    "moved", "failed", 3, Exactly(4), "tensors", "1 of 4 never moved; likely a rate of 0"
)
GAP = Verdict("gap_closed", "passed", 0.9, AtLeast(0.8), "of the gap", "")
RELOAD = Verdict("reload", "failed", 7.4123456789, AtMost(0.5), "logits", "a tensor wasn't saved")


def _record(outcome: Outcome = "passed", **fields: Any) -> Record:
    fields.setdefault("axes", {"recipe": "sft", "method": "lora", "quantizer": "none"})
    if "gap_closed" in fields.get("metrics", {}):
        fields["checks"] = (*fields.get("checks", ()), GAP)
    return Record("r", "a[cpu]", "a.yaml", "cpu", outcome=outcome, **fields)


def _suite() -> list[Record]:
    metrics = {"seconds": 112.04, "process_peak_mb": 1331.4, "gap_closed": 0.913}
    return [
        _record(axes={"recipe": "sft", "method": method, "quantizer": quantizer}, metrics=metrics)
        for method in METHODS
        for quantizer in QUANTIZERS
    ]


def _text(*records: Record, width: int = 80, colour: bool = False, whole: bool = False) -> str:
    return render(report(records, whole=whole), width, colour=colour)


def _rows(text: str) -> list[str]:
    """The rows of the matrix, each with single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("recipe method"))
    return lines[first + 1 : lines.index("", first)]


def test_failure_has_all_its_parts() -> None:
    """What was measured, the bound, the cause, where the evidence is, how to repeat it."""
    reason = f"moved: {MOVED.message} (and 1 more)"
    run_dir = ".tunematrix/cpu/runs/r/a"
    record = _record("failed", reason=reason, checks=(MOVED, RELOAD), run_dir=run_dir)
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
    shown = failure(_record("failed", reason="reload: why", checks=(near,)), AGAIN)
    assert shown.startswith("reload: measured 0.50004 logits, bound <= 0.5\n")
    share = replace(near, measured=0.0163123, bound=AtLeast(0.8123456))
    shown = failure(_record("failed", reason="reload: why", checks=(share,)), AGAIN)
    assert shown.startswith("reload: measured 0.0163 logits, bound >= 0.812\n")


@pytest.mark.parametrize("bound", [AtLeast(-math.inf), AtMost(math.nan), Exactly("a"), Exactly(3)])
def test_bounds_that_keep_their_digits(bound: Bound) -> None:
    """Whole numbers, texts, and what isn't finite."""
    assert str(rounded(bound)) == str(bound)


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
    check = Verdict("x", "failed", measured, Exactly(0), unit, "why")
    assert f"x: measured {shown}, bound 0\n" in failure(_record("failed", checks=(check,)), AGAIN)


def test_passed_and_warned_checks_are_no_part_of_a_failure() -> None:
    """Only what failed is shown."""
    quiet = (
        Verdict("exit", "passed", "exit code 0", Exactly("exit code 0"), "", ""),
        Verdict("stderr_warning", "warned", 1, Exactly(0), "patterns", "odd"),
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
    assert _rows(_text(back)) == ["✗ sft lora none ✗1 nan% 1.0 s"]


@pytest.mark.parametrize(("outcome", "symbol"), SYMBOLS.items())
def test_symbols(outcome: Outcome, symbol: str) -> None:
    """Each outcome is in the matrix and among the counts, by its symbol and its name."""
    text = _text(_record(outcome))
    assert _rows(text) == [f"{symbol} sft lora none {symbol}1"]
    assert f"cells: {symbol} 1 {outcome.replace('_', ' ')}\n" in text


def test_a_square_of_several_cells() -> None:
    """Counts worst first, the smallest share, the longest cell and the largest growth."""
    metrics = {"seconds": 3.0, "process_peak_mb": 64.0, "gap_closed": 0.913}
    slower = {"seconds": 4.0, "process_peak_mb": 32.0, "gap_closed": 0.95}
    text = _text(_record(metrics=metrics), _record(metrics=slower), _record("known_failure"))
    assert _rows(text) == ["≈ sft lora none ≈1 ✓2 91% 4.0 s 64 MB"]


@pytest.mark.parametrize("width", [80, 200])
def test_a_square_is_a_line(width: int) -> None:
    """With whole names and every figure, on a terminal of any usual width."""
    text = _text(*_suite(), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert _rows(text) == [
        f"✓ sft {method} {quantizer} ✓1 91% 112.0 s 1331 MB"
        for method in METHODS
        for quantizer in QUANTIZERS
    ]


def test_a_long_name_pushes_its_own_line_alone() -> None:
    """It is whole, and others stay as they are."""
    suite, name = _suite(), "z" * 150
    odd = replace(suite[0], axes={**suite[0].axes, "quantizer": name})
    usual = [line for line in _text(*suite, width=200).splitlines() if "sft" in line]
    lines = [line for line in _text(*suite, odd, width=200).splitlines() if "sft" in line]
    assert [line for line in lines if name not in line] == usual
    assert f"{name}  ✓1" in next(line for line in lines if name in line)


def test_names_are_whole_on_a_narrow_terminal() -> None:
    """It folds their line, which loses no letter."""
    assert _rows(_text(_suite()[-1], width=40)) == [
        "✓ sft custom-lora torchao-int8 ✓1 91% 112.0 s 1331 MB"
    ]


def test_runs_have_sections_of_their_own() -> None:
    """Each with its name, day, machine and versions; nothing of two is added up."""
    machine = {"hardware": "Xeon", "system": "Linux", "architecture": "x86_64", "python": "3.11.7"}
    ours = _record(versions={"torch": "2.13.0", "trl": "1.16.0"}, machine=machine)
    ours = replace(ours, run_id="20261128-141907-05ae")
    theirs = replace(ours, run_id="20261129-000501-1", environment="mlx", versions={"mlx": "0.32"})
    text = _text(ours, theirs)
    lines = text.splitlines()
    assert lines[:3] == [
        "cpu   run 20261128-141907-05ae, 2026-11-28 14:19",
        "Xeon, Linux x86_64, Python 3.11.7",
        "torch 2.13.0, trl 1.16.0",
    ]
    second = lines.index("mlx   run 20261129-000501-1, 2026-11-29 00:05")
    assert lines[second + 2] == "mlx 0.32"
    assert text.count("✓  sft     lora    none       ✓1") == 2
    assert text.count("cells: ✓ 1 passed\n") == 2


def test_an_environment_of_two_backends() -> None:
    """They share no line."""
    text = _text(_record(backend="cpu"), _record(backend="mlx"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "backend recipe method quantizer cells gap longest memory" in lines
    assert lines.count("✓ cpu sft lora none ✓1") == lines.count("✓ mlx sft lora none ✓1") == 1


def test_what_failed_stands_below_the_matrix() -> None:
    """Whatever else there is: id, reason and the command that repeats it."""
    text = _text(_record(), _record("failed", reason="moved: 1 of 4"), _record("error", reason="e"))
    assert (
        "! a[cpu]\n  e\n  tunematrix run -e cpu 'a.yaml::a[cpu]'\n"
        "✗ a[cpu]\n  moved: 1 of 4\n  tunematrix run -e cpu 'a.yaml::a[cpu]'\n"
    ) in text


def test_the_command_that_repeats_a_record() -> None:
    """With all that its id alone doesn't plan."""
    odd = replace(_record(), cell_id="a[cpu]@3!half", seed=3, planted="half")
    assert run_again(odd) == ("tunematrix run -e cpu 'a.yaml::a[cpu]@3!half' --seeds=4 -m planted")


def test_the_command_repeats_the_faults_of_a_record() -> None:
    """In a session of Nox as well; there Nox names the environment."""
    record = replace(_record("failed"), faults=("tunematrix.faults.gradients:double",))
    fault = "--fault=tunematrix.faults.gradients:double"
    assert run_again(record) == f"tunematrix run -e cpu 'a.yaml::a[cpu]' {fault}"
    assert run_again(record, session="cpu") == f"nox -s cpu -- 'a.yaml::a[cpu]' {fault}"
    assert f"  tunematrix run -e cpu 'a.yaml::a[cpu]' {fault}\n" in _text(record)


def test_what_is_hidden_is_counted() -> None:
    """In words that fit the number."""
    assert "\n1 cell is declared unsupported; --all" in _text(_record("unsupported"))
    assert "\n2 are known to fail; --all" in _text(*[_record("known_failure")] * 2)


def test_reasons_are_shown_on_request() -> None:
    """Each once, with the cells it is about and a link that can be opened."""
    link = f"https://e.org/{'x' * 90}"
    linked = _record("unsupported", reason="no gradient", link=link)
    bare = _record("known_failure", reason="no kernel")
    text = _text(linked, linked, bare, whole=True)
    assert f"· unsupported ×2: no gradient\n    {link}\n    a[cpu], a[cpu]\n" in text
    assert "≈ known failure ×1: no kernel\n    a[cpu]\n" in text
    short = _text(linked, linked, bare)
    assert "no gradient" not in short and "no kernel" not in short
    assert "2 cells are declared unsupported and 1 is known to fail; --all shows why" in short


def test_why_cells_could_not_run_is_always_shown() -> None:
    """It is no choice of anybody's."""
    text = _text(_record("unavailable", reason="there is no GPU"))
    assert "? unavailable ×1: there is no GPU\n    a[cpu]\n" in text
    assert "--all" not in text


def test_committed_records_fit_into_80_columns() -> None:
    """But for links, which have to stay whole; nothing is cut."""
    files = (Path(__file__).parents[3] / "docs/verified").glob("*.jsonl")
    records = [record for file in sorted(files) for record in Store(file).read()]
    text = _text(*records, whole=True)
    assert [line for line in text.splitlines() if len(line) > 80 and "://" not in line] == []
    assert "…" not in text
    for record in records:
        assert record.cell_id in text or record.outcome == "passed"


def test_what_records_say_does_nothing_to_a_terminal() -> None:
    """Wherever it stands: escape codes are written out, brackets are no styles, lines indented."""
    odd = "\x1b[2J[bold][/]\n=== 5 passed ===\udcff"
    check = replace(SAME, name=odd, message=odd, unit=odd, measured=odd, bound=Exactly(odd))
    fields: dict[str, Any] = {
        "run_id": odd,
        "cell_id": odd,
        "spec": odd,
        "environment": odd,
        "axes": {"recipe": odd, "method": (odd, odd), "quantizer": odd},
        "reason": odd,
        "link": odd,
        "versions": {"torch": odd},
        "machine": dict.fromkeys(("gpu", "hardware", "system", "architecture", "python"), odd),
        "run_dir": odd,
        "base_id": odd,
        "backend": odd,
        "planted": odd,
        "checks": (check, replace(check, name="same_losses", outcome="failed")),
    }
    for arms in ((), (odd,)):
        records = [Record(**fields, outcome=outcome, arms=arms) for outcome in SYMBOLS]
        texts = [_text(*records, whole=whole) for whole in (True, False)]
        texts += [failure(record, AGAIN) for record in records]
        texts += [figures(record) for record in records]
        texts.append(render(ending(records, records, {odd: odd}, 80), 80, colour=False))
        for text in texts:
            assert "\x1b" not in text and "\udcff" not in text
            assert "=== 5 passed ===" not in text.splitlines()
        assert r"\x1b[2J[bold][/]" in texts[0]


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


SAME = Verdict("same_gradients_mean", "passed", 2.5e-8, AtMost(1e-6), "of the mean size", "at q")


def _relation(check: Verdict = SAME, outcome: Outcome = "passed", **fields: Any) -> Record:
    fields = {"checks": (check,), "arms": ("a[cpu-x]", "a[cpu-y]", "a[cpu-x]"), **fields}
    return _record(outcome, **fields)


def test_relations_are_counted_or_listed() -> None:
    """In short, how many and which is nearest to its bound; on request, each with its figures."""
    far = replace(_relation(), cell_id="b[cpu]", checks=(replace(SAME, measured=1e-9),))
    short = _text(_record(), _relation(), far)
    nearest = "  nearest to its bound: same_gradients_mean of a[cpu], 98% left\n"
    assert f"relations: ✓ 2 passed\n{nearest}" in short
    assert _rows(short) == ["✓ sft lora none ✓1"]
    whole = _text(_record(), _relation(), far, whole=True, width=100)
    assert (
        "✓  a[cpu]\n"
        "   same_gradients_mean: measured 2.5e-08 of the mean size, bound <= 1e-06, 98% left\n"
    ) in whole
    assert "relations" not in _text(_record(), whole=True)
    assert "quantizer" not in _text(_relation(), whole=True)


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
    lines = _text(relation, whole=True).splitlines()
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
