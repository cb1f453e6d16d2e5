"""Which runs a page shows in full, what it knows of earlier ones, and what it refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.report.html import gathering
from tunematrix.report.html.gathering import Gathered, Lines, gather
from tunematrix.report.html.page import page_of
from tunematrix.report.html.sources import lines_of, recorded
from tunematrix.results.history import History
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

OLD, MIDDLE, NEW = "20261101-0800-aa", "20261102-0800-bb", "20261103-0800-cc"
HOST = {"hardware": "AMD EPYC"}


def made(run: str = NEW, cell: str = "a[x]", outcome: Outcome = "passed", **more: object) -> Record:
    """A record with a figure and a machine."""
    fields: dict[str, object] = {
        "environment": "cpu",
        "axes": {"method": "lora"},
        "metrics": {"seconds": 1.5},
        "machine": HOST,
        "versions": {"torch": "2.13.0"},
        **more,
    }
    return Record(run_id=run, cell_id=cell, spec="a.yaml", outcome=outcome, **fields)  # type: ignore[arg-type]


def lines(*records: Record) -> Lines:
    """A source of records."""
    texts = [json.dumps(record.to_json()).encode() for record in records]
    return lambda: [(text, f"here:{number}") for number, text in enumerate(texts, 1)]


def shown(found: Gathered) -> list[tuple[str, str, int]]:
    """Environment, run and number of records of what is shown in full."""
    newest = [thread.newest for thread in found.threads]
    return [(run.environment, run.id, len(run.records)) for run in newest]


def test_the_newest_run_is_shown_and_earlier_ones_are_remembered() -> None:
    """In whatever order they stand."""
    records = [made(run, cell) for run in (OLD, MIDDLE, NEW) for cell in ("a[x]", "b[x]")]
    for seed in range(20):
        random.Random(seed).shuffle(records)
        (thread,) = gather([lines(*records)]).threads
        assert thread.newest.id == NEW and len(thread.newest.records) == 2
        assert thread.before is not None and thread.before.id == MIDDLE
        assert [point.run for point in thread.past["a[x]"]] == [OLD, MIDDLE]
        assert thread.past["a[x]"][0].figures == {"seconds": 1.5}
        assert thread.past["a[x]"][0].moment == "2026-11-01 08:00"


def test_a_last_record_that_knows_nothing_of_its_machine() -> None:
    """It counts, and its run is shown all the same."""
    late = made(outcome="error", versions={})
    (thread,) = gather([lines(made(), late)]).threads
    assert [record.outcome for record in thread.newest.records] == ["error"]


def test_environments_and_machines_are_told_apart() -> None:
    """Each has a newest run; what never ran knows its machine by half, and stays with its run."""
    other = {"hardware": "AMD EPYC", "gpu": "H100"}
    unsupported = made(NEW, "c[x]", "unsupported", environment="cuda", versions={})
    records = [
        made(NEW),
        made(OLD, machine={"hardware": "Xeon"}),
        made(NEW, environment="cuda", machine=other),
        unsupported,
    ]
    found = gather([lines(*records)])
    assert shown(found) == [("cpu", NEW, 1), ("cpu", OLD, 1), ("cuda", NEW, 2)]
    assert [thread.newest.hardware for thread in found.threads] == ["AMD EPYC", "Xeon", "H100"]


def test_a_record_in_two_sources_counts_once() -> None:
    """A history holds what the file beside it holds; of two that differ, the later one counts."""
    first, second = made(outcome="failed"), made(outcome="passed")
    (thread,) = gather([lines(made(OLD), first), lines(made(OLD), second)]).threads
    assert [record.outcome for record in thread.newest.records] == ["passed"]
    assert len(thread.past["a[x]"]) == 1


def test_runs_without_a_time_follow_each_other_as_they_were_recorded() -> None:
    """Names of one's own say nothing about when."""
    (thread,) = gather([lines(made("zebra"), made("ape"))]).threads
    assert (thread.newest.id, thread.earlier) == ("ape", 1)


def test_a_cell_shows_its_newest_past() -> None:
    """Not all of a year."""
    runs = [f"202611{day:02d}-0800-aa" for day in range(1, 29)]
    runs += [f"202612{day:02d}-0800-aa" for day in range(1, 29)]
    (thread,) = gather([lines(*map(made, runs))]).threads
    past = [point.run for point in thread.past["a[x]"]]
    assert past == runs[:-1][-gathering.MOST_PAST :] and thread.earlier == len(runs) - 1


def test_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is named."""
    monkeypatch.setattr(gathering, "MOST_CELLS", 3)
    records = [
        made(run, f"{cell}[x]", environment=environment)
        for run, environment in ((OLD, "a"), (NEW, "b"), (MIDDLE, "c"))
        for cell in "xy"
    ]
    found = gather([lines(*records)])
    assert shown(found) == [("b", NEW, 2)]
    assert {name[:2] for name in found.left_out} == {("a", OLD), ("c", MIDDLE)}
    assert OLD in page_of(found).left_out


def test_two_machines_with_runs_of_one_name() -> None:
    """They are told apart; what never ran is of the first."""
    ours, theirs = {"hardware": "Xeon"}, {"hardware": "EPYC"}
    records = [
        replace(made(NEW, "z[x]"), machine={}, versions={}, outcome="unsupported"),
        replace(made(NEW, "a[x]"), machine=ours, versions={"torch": "2.13"}),
        replace(made(NEW, "a[x]"), machine=theirs, versions={"torch": "2.13"}),
        replace(made(NEW, "b[x]"), machine=ours, versions={"torch": "2.13"}),
    ]
    found = gather([lines(*records)])
    assert [(one.newest.hardware, len(one.newest.records)) for one in found.threads] == [
        ("Xeon", 3),
        ("EPYC", 1),
    ]
    keys = [(cell.run, cell.id) for cell in page_of(found).cells]
    assert sorted(keys) == [(0, "a[x]"), (0, "b[x]"), (0, "z[x]"), (1, "a[x]")]


def test_a_run_that_was_interrupted() -> None:
    """Its machines' parts are counted together; an exclusion is none of what was to run."""

    def told(*records: Record) -> list[str]:
        return [run.interrupted for run in page_of(gather([lines(*records)])).runs]

    assert told(*_over_two_machines(planned=5)) == ["interrupted: 3 of 5 ran"] * 2
    assert told(*_over_two_machines(planned=3)) == ["", ""]
    assert told(*_over_two_machines(planned=0)) == ["", ""]


def _over_two_machines(planned: int) -> list[Record]:
    hosts = {"a[x]": "Xeon", "b[x]": "Xeon", "c[x]": "EPYC"}
    ran = [made(NEW, one, machine={"hardware": host}) for one, host in hosts.items()]
    return [replace(one, planned=planned) for one in ran] + [
        made(NEW, "d[x]", "unsupported", machine={}, versions={})
    ]


def test_files_that_are_torn_or_mixed(tmp_path: Path) -> None:
    """Records of all schemas stand beside each other, and a torn last line is left out."""
    file = tmp_path / "results.jsonl"
    third = made(NEW, "c[x]").to_json()
    second = {**made(NEW, "b[x]").to_json(), "schema_version": 2}
    del second["losses"], second["stderr"]
    first = {**made(NEW, "a[x]").to_json(), "schema_version": 1}
    for name in ("losses", "stderr", "base_id", "spec_digest", "backend", "overrides", "seed"):
        del first[name]
    for name in ("planted", "step", "faults"):
        del first[name]
    texts = [json.dumps(one) for one in (first, second, third)]
    file.write_text("\n".join([*texts, texts[-1][:40]]), encoding="utf-8")
    (thread,) = gather([lines_of(file)]).threads
    assert [record.cell_id for record in thread.newest.records] == ["a[x]", "b[x]", "c[x]"]


@pytest.mark.parametrize(
    "line",
    ["", "{}", "[]", "nonsense", '{"schema_version": 99}', '{"schema_version": 3, "run_id": 4}'],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    """With its file and its number."""
    file = tmp_path / "results.jsonl"
    Store(file).append(made())
    with file.open("a") as more:
        more.write(f"{line}\n")
    with pytest.raises(BadInput, match=r"results.jsonl:2: .*record"):
        gather([lines_of(file)])


def test_what_stderr_has_too_much_of_is_cut_from_its_beginning() -> None:
    """Ten megabytes from somebody else's tool make no page of ten megabytes."""
    text = "x" * 10_000_000 + "\nthe end"
    (thread,) = gather([lines(made(outcome="failed", stderr=text))]).threads
    (cell,) = page_of(gather([lines(made(outcome="failed", stderr=text))])).cells
    assert len(next(iter(thread.whole())).stderr) == 4000
    assert cell.stderr.endswith("x\nthe end")


def test_a_project_has_a_history_or_none(tmp_path: Path) -> None:
    """Both are read where they are; of another environment, nothing is."""
    folder = tmp_path / "cpu"
    assert not list(_all(recorded(folder, tmp_path)))
    Store(folder / "results.jsonl").append(made(NEW))
    elsewhere = tmp_path / "elsewhere.jsonl"
    for record in (made(OLD), made(MIDDLE, environment="mlx")):
        Store(elsewhere).append(record)
    with History(tmp_path / "history.sqlite") as history:
        history.pour([elsewhere])
    found = gather(recorded(folder, tmp_path))
    assert shown(found) == [("cpu", NEW, 1)]
    assert [point.run for point in found.threads[0].past["a[x]"]] == [OLD]


def test_devices_are_no_files_of_records(tmp_path: Path) -> None:
    """/dev/full can be read for ever."""
    link = tmp_path / "cpu/results.jsonl"
    link.parent.mkdir()
    link.symlink_to("/dev/full")
    assert not list(_all(recorded(link.parent, tmp_path)))


def test_figures_that_are_none() -> None:
    """They are left out of the past, and of the present."""
    odd = {"seconds": float("nan"), "gap_closed": float("inf"), "process_peak_mb": 3.0}
    records = [replace(made(run), metrics=odd) for run in (OLD, NEW)]
    (cell,) = page_of(gather([lines(*records)])).cells
    assert cell.figures == {"process_peak_mb": 3.0} == cell.past[0].figures


def _all(sources: Iterable[Lines]) -> Iterable[tuple[bytes, str]]:
    return (line for source in sources for line in source())


def test_a_figure_larger_than_any_float_of_an_earlier_run() -> None:
    """It isn't shown; reading it ends nothing."""
    huge = json.dumps(made(OLD).to_json()).replace("1.5", "1" + "0" * 400).encode()
    whole = lines(made(MIDDLE), made(NEW))
    (thread,) = gather([lambda: [(huge, "here:0")], whole]).threads
    assert [point.figures for point in thread.past["a[x]"]] == [{}, {"seconds": 1.5}]
