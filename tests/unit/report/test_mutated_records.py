"""Records that somebody else has written: each is shown, or refused with its line."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput
from tunematrix.report.ending import ending
from tunematrix.report.html.gathering import gather
from tunematrix.report.html.page import page_of, rendered
from tunematrix.report.html.sources import lines_of
from tunematrix.report.junit import of_cell, of_suite
from tunematrix.report.rows import runs
from tunematrix.report.summary import as_summary
from tunematrix.report.tensorboard import write_runs
from tunematrix.report.terminal import failure, figures, render, report
from tunematrix.report.verified import as_markdown
from tunematrix.results.store import Store, keep

COMMITTED = Path(__file__).parents[3] / "docs/verified"
VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 3.5, 1e308, 10**30, float("nan"), float("inf"), "", "x", "nan"),
    *("\x1b[2J", "\ud800", "a|b", "[/]", [], ["x"], [1], {}, {"a": 1}, {"": None}, [[]]),
)
Route = tuple[str | int, ...]


def routes(value: Any, route: Route = ()) -> Iterator[Route]:
    """Every place in some data."""
    yield route
    if isinstance(value, dict | list):
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            yield from routes(child, (*route, key))


def mutated(data: Any, route: Route, value: object) -> Any:
    """The data with another value at one place, or without it where the value is `...`."""
    if not route:
        return value
    (key, *rest) = route
    changed = dict(data) if isinstance(data, dict) else dict(enumerate(data))
    if value is ... and not rest:
        del changed[key]
    else:
        changed[key] = mutated(changed[key], tuple(rest), value)
    return changed if isinstance(data, dict) else list(changed.values())


def shown_or_refused(file: Path) -> str:
    """Take the records of a file through every view; return why they are refused, if they are."""
    try:
        records = Store(file).read()
    except BadInput as error:
        return str(error)
    texts = [render(report(records, whole=whole), 80, colour=True) for whole in (True, False)]
    texts.append(render(ending(records, records, {}, 80), 80, colour=False))
    texts += [failure(record, "again") + figures(record) for record in records]
    texts += [as_markdown({"cpu": ""}, runs(records)), as_summary(records)]
    texts += [text for record in records for pair in of_cell(record) for text in pair]
    texts += [text for pair in (of_suite(records) if records else ()) for text in pair]
    write_runs(records, file.parent / "tensorboard")
    for text in texts:
        assert "\x1b[2J" not in text
        assert text.encode()
    assert b"\x1b[2J" not in rendered(page_of(gather([lines_of(file)])))
    keep(records, file.parent)
    return ""


@pytest.mark.each_time(2)
@pytest.mark.parametrize("newest", [False, True], ids=["schema 1", "schema 2"])
@pytest.mark.parametrize("seed", range(4))
def test_mutations(tmp_path: Path, seed: int, newest: bool) -> None:
    """No traceback, whatever stands where."""
    chance = random.Random(seed)
    (source,) = COMMITTED.glob("mlx-*amd-epyc.jsonl")
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    if newest:
        records = [record.to_json() for record in Store(source).read()]
    file = tmp_path / "mutated.jsonl"
    for record in chance.sample(records, 20):
        for route in chance.sample(list(routes(record)), 8):
            value = chance.choice([*VALUES, ...]) if route else chance.choice(VALUES)
            file.write_text(json.dumps(mutated(record, route, value)) + "\n", encoding="utf-8")
            refusal = shown_or_refused(file)
            assert not refusal or refusal.startswith(f"{file}:1: ")
