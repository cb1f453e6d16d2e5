from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report.shown import AGAIN, SAME, WARNED, a_record, as_text, rows_of

from tunematrix.checks.bound import Exactly
from tunematrix.report.ending import ending
from tunematrix.report.rows import SYMBOLS
from tunematrix.report.terminal import failure, figures, render
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

METHODS = ("full", "lora", "dora", "custom-lora")
QUANTIZERS = (
    *("none", "bnb-int8", "bnb-nf4", "hqq-int4", "hqq-int8"),
    *("quanto-int4", "quanto-int8", "torchao-int4", "torchao-int8"),
)


def _suite() -> list[Record]:
    metrics = {"seconds": 112.04, "process_peak_mb": 1331.4, "gap_closed": 0.913}
    return [
        a_record(axes={"recipe": "sft", "method": method, "quantizer": quantizer}, metrics=metrics)
        for method in METHODS
        for quantizer in QUANTIZERS
    ]


@pytest.mark.parametrize(("outcome", "symbol"), SYMBOLS.items())
def test_symbols(outcome: Outcome, symbol: str) -> None:
    """Each outcome is in the matrix and among the counts, by its symbol and its name."""
    text = as_text(a_record(outcome))
    assert rows_of(text) == [f"{symbol} sft lora none {symbol}1"]
    assert f"cells: {symbol} 1 {outcome.replace('_', ' ')}\n" in text


def test_a_square_of_several_cells() -> None:
    """Counts worst first, the smallest share, the longest cell and the largest growth."""
    metrics = {"seconds": 3.0, "process_peak_mb": 64.0, "gap_closed": 0.913}
    slower = {"seconds": 4.0, "process_peak_mb": 32.0, "gap_closed": 0.95}
    text = as_text(a_record(metrics=metrics), a_record(metrics=slower), a_record("known_failure"))
    assert rows_of(text) == ["≈ sft lora none ≈1 ✓2 91% 4.0 s 64 MB"]


@pytest.mark.parametrize("width", [80, 200])
def test_a_square_is_a_line(width: int) -> None:
    """With whole names and every figure, on a terminal of any usual width."""
    text = as_text(*_suite(), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert rows_of(text) == [
        f"✓ sft {method} {quantizer} ✓1 91% 112.0 s 1331 MB"
        for method in METHODS
        for quantizer in QUANTIZERS
    ]


def test_a_long_name_pushes_its_own_line_alone() -> None:
    """It is whole, and others stay as they are."""
    suite, name = _suite(), "z" * 150
    odd = replace(suite[0], axes={**suite[0].axes, "quantizer": name})
    usual = [line for line in as_text(*suite, width=200).splitlines() if "sft" in line]
    lines = [line for line in as_text(*suite, odd, width=200).splitlines() if "sft" in line]
    assert [line for line in lines if name not in line] == usual
    assert f"{name}  ✓1" in next(line for line in lines if name in line)


def test_names_are_whole_on_a_narrow_terminal() -> None:
    """It folds their line, which loses no letter."""
    assert rows_of(as_text(_suite()[-1], width=40)) == [
        "✓ sft custom-lora torchao-int8 ✓1 91% 112.0 s 1331 MB"
    ]


def test_runs_have_sections_of_their_own() -> None:
    """Each with its name, day, machine and versions; nothing of two is added up."""
    machine = {"hardware": "Xeon", "system": "Linux", "architecture": "x86_64", "python": "3.11.7"}
    ours = a_record(versions={"torch": "2.13.0", "trl": "1.16.0"}, machine=machine)
    ours = replace(ours, run_id="20261128-141907-05ae")
    theirs = replace(ours, run_id="20261129-000501-1", environment="mlx", versions={"mlx": "0.32"})
    text = as_text(ours, theirs)
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
    text = as_text(a_record(backend="cpu"), a_record(backend="mlx"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "backend recipe method quantizer cells gap longest memory" in lines
    assert lines.count("✓ cpu sft lora none ✓1") == lines.count("✓ mlx sft lora none ✓1") == 1


def test_what_failed_stands_below_the_matrix() -> None:
    """Whatever else there is: id, reason and the command that repeats it."""
    text = as_text(
        a_record(), a_record("failed", reason="moved: 1 of 4"), a_record("error", reason="e")
    )
    assert (
        "! a[cpu]\n  e\n  tunematrix run -e cpu 'a.yaml::a[cpu]'\n"
        "✗ a[cpu]\n  moved: 1 of 4\n  tunematrix run -e cpu 'a.yaml::a[cpu]'\n"
    ) in text


def test_what_is_hidden_is_counted() -> None:
    """In words that fit the number."""
    assert "\n1 cell is declared unsupported; --all" in as_text(a_record("unsupported"))
    assert "\n2 are known to fail; --all" in as_text(*[a_record("known_failure")] * 2)


def test_reasons_are_shown_on_request() -> None:
    """Each once, with the cells it is about and a link that can be opened."""
    link = f"https://e.org/{'x' * 90}"
    linked = a_record("unsupported", reason="no gradient", link=link)
    bare = a_record("known_failure", reason="no kernel")
    text = as_text(linked, linked, bare, whole=True)
    assert f"· unsupported ×2: no gradient\n    {link}\n    a[cpu], a[cpu]\n" in text
    assert "≈ known failure ×1: no kernel\n    a[cpu]\n" in text
    short = as_text(linked, linked, bare)
    assert "no gradient" not in short and "no kernel" not in short
    assert "2 cells are declared unsupported and 1 is known to fail; --all shows why" in short


def test_warnings_are_counted_and_shown_on_request() -> None:
    """Each once, with the cells that it is about; those of relations beside their own counts."""
    warned = a_record(checks=(WARNED,))
    short = as_text(warned, warned, a_record(arms=("a", "b"), checks=(WARNED,)))
    assert "\ncells: ✓ 2 passed   2 warnings\n--all shows what is warned of\n" in short
    assert "\nrelations: ✓ 1 passed   1 warning\n" in short
    assert "seen before" not in short
    text = as_text(warned, warned, whole=True)
    assert "warning ×2: watched_batches: 10 rows had been seen before\n    a[cpu], a[cpu]\n" in text
    assert "warning" not in as_text(a_record(), whole=True)


def test_why_cells_could_not_run_is_always_shown() -> None:
    """It is no choice of anybody's."""
    text = as_text(a_record("unavailable", reason="there is no GPU"))
    assert "? unavailable ×1: there is no GPU\n    a[cpu]\n" in text
    assert "--all" not in text


def test_committed_records_fit_into_80_columns() -> None:
    """But for links, which have to stay whole; nothing is cut."""
    files = (Path(__file__).parents[3] / "docs/verified").glob("*.jsonl")
    records = [record for file in sorted(files) for record in Store(file).read()]
    text = as_text(*records, whole=True)
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
        texts = [as_text(*records, whole=whole) for whole in (True, False)]
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
    records = [
        a_record(outcome, metrics={"seconds": 1.0, "gap_closed": 0.9}) for outcome in SYMBOLS
    ]
    assert "\x1b" not in as_text(*records)


def test_text_with_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has colours gets them, and the same words."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m✗" in as_text(a_record("failed"), colour=True)


def test_an_interrupted_run() -> None:
    """How far it came stands above the counts, and with both machines of a run on two."""
    here = a_record(planned=3, machine={"hardware": "Xeon"}, versions={"torch": "2.13"})
    there = replace(here, cell_id="b[cpu]", machine={"hardware": "EPYC"})
    text = as_text(here, there)
    assert text.count("interrupted: 2 of 3 ran\ncells: ✓ 1 passed\n") == 2
    assert "interrupted" not in as_text(here, there, replace(there, cell_id="c[cpu]"))
    assert "interrupted" not in as_text(a_record())
