"""How a run stands, as lines of a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.report.rows import Place, place_of
from tunematrix.report.standing import NAMED_AT_MOST, Standing, State, screen
from tunematrix.results.record import Outcome
from tunematrix.results.store import Store

COMMITTED = Path(__file__).parents[3] / "docs/verified"
SQUARE = Place("cpu", "sft", "lora", "none")


def shown(standing: Standing, width: int = 80, height: int = 24) -> list[str]:
    """The lines, without their colours."""
    return [line.plain for line in screen(standing, width, height)]


def square(*states: State) -> str:
    """What the only square of a matrix shows, of cells in some states."""
    outcomes: dict[str, Outcome] = {}
    running = {}
    for number, state in enumerate(states):
        if state == "running":
            running[str(number)] = 1.0
        elif state != "waiting":
            outcomes[str(number)] = state
    places = {str(number): SQUARE for number in range(len(states))}
    return shown(Standing(places, outcomes, running, len(states)))[1].split()[-1]


@pytest.fixture(scope="module")
def cpu() -> Standing:
    """The whole suite of cpu, half done."""
    (file,) = COMMITTED.glob("cpu-*amd*.jsonl")
    records = [record for record in Store(file).read() if not record.arms]
    places = {record.cell_id: place_of(record.backend, record.axes) for record in records}
    done = {record.cell_id: record.outcome for record in records[::2]}
    running = {record.cell_id: 7.0 for record in records[1:20:2]}
    return Standing(places, done, running, len(records), "about 3 min")


@pytest.mark.parametrize(
    ("states", "sign"),
    [
        (["waiting"], "○"),
        (["passed", "waiting"], "○"),
        (["passed", "running", "waiting"], "▸"),
        (["passed", "unsupported"], "✓"),
        (["unsupported"], "·"),
        (["known_failure", "passed"], "≈"),
        (["unavailable", "passed"], "?"),
        (["failed", "running", "waiting"], "✗"),
        (["error", "failed", "running"], "!"),
    ],
)
def test_a_square_shows_what_matters_most(states: list[State], sign: str) -> None:
    """What failed stays, what runs is seen, and a tick means that all of it has passed."""
    assert square(*states) == sign


def test_the_suite_of_cpu_fits_the_smallest_terminal(cpu: Standing) -> None:
    """All rows and columns, what runs, and how many are done."""
    lines = shown(cpu)
    assert len(lines) <= 20 and max(map(len, lines)) < 80
    assert lines[0].split() == ["none", "bnb", "hqq", "quanto", "torchao"]
    assert lines[1].split() == ["int8", "nf4", *["int4", "int8"] * 3]
    assert sum(line.startswith(("sft", "dpo", "generate")) for line in lines) == 8
    assert [line[0] for line in lines].count("▸") == NAMED_AT_MOST
    assert lines[-2].endswith(", and 6 more")
    assert lines[-1].startswith(f"117 of {len(cpu.places)} done, about 3 min left   ≈ ")


@pytest.mark.parametrize("width", [1, 2, 10, 40, 74, 75, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 18, 24, 60])
def test_any_terminal(cpu: Standing, width: int, height: int) -> None:
    """No line reaches the last column, and what scrolls past keeps some lines."""
    lines = shown(cpu, width, height)
    assert all(len(line) < max(2, width) for line in lines)
    assert len(lines) <= max(2, height - 4)


def test_before_the_first_cell() -> None:
    """Libraries are imported then, which takes its time."""
    assert shown(Standing({"a": SQUARE}, {}, {}, 1, "about 9 s"))[-1] == (
        "getting ready; 1 to run, about 9 s left"
    )
    importing = Standing({"a": SQUARE}, {}, {}, 1, is_importing=True)
    assert shown(importing)[-1] == "importing the libraries; 1 to run"


def test_long_names() -> None:
    """They are cut, and leave the matrix its place; cut alike, the worst is seen."""
    long = "adapter-with-a-name-that-nobody-would-type-"
    places = {name: Place("cpu", "sft", long + name, "none") for name in "abc"}
    lines = shown(Standing(places, {"a": "passed", "b": "failed", "c": "passed"}, {}, 3))
    assert [line for line in lines if line.startswith("sft")] == [
        "sft  adapter-with-a-name-that-no…  ✗"
    ]


def test_a_low_terminal_keeps_what_is_under_way(cpu: Standing) -> None:
    """Rows that are done go first, and it is said how many are missing."""
    done = [name for name, place in cpu.places.items() if place.method != "dora"]
    outcomes: Mapping[str, Outcome] = dict.fromkeys(done, "passed")
    running = {name: 1.0 for name, place in cpu.places.items() if place.method == "dora"}
    lines = shown(replace(cpu, outcomes=outcomes, running=running), height=14)
    assert [line.split()[0] for line in lines if "  dora " in line] == ["sft", "dpo", "transfer"]
    assert any(line.startswith("and ") and line.endswith(" rows more") for line in lines)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "[red]x[/]", "é" * 30, "", "日本", "-", "a-b"])
def test_hostile_names(text: str) -> None:
    """They move no cursor and break no line."""
    place = Place(text, text, text, text)
    lines = shown(Standing({text: place}, {}, {text: 1.0}, 1))
    assert all("\x1b" not in line and "\n" not in line for line in lines)
    assert lines[-1] == "0 of 1 done"
