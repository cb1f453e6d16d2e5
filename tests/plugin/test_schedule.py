"""How many cells run at once, which goes first, which runs alone, and how long the rest takes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tunematrix.plugin import schedule
from tunematrix.plugin.schedule import (
    Job,
    Progress,
    Schedule,
    measures_alone,
    recorded_seconds,
)
from tunematrix.run.local.room import CELLS_ON_A_GPU, cells_at_once
from tunematrix.spec.model import Spec

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

XDIST = ("-p", "xdist.plugin", "-n")
ARMS = "relation: {arms: {a: {}, b: {train.seed: 1}}, ratio: {%s: {b: {max: 2}}}}"


def order(plan: Schedule) -> list[str]:
    """The ids of all jobs, in the order in which one thread would run them."""
    taken = []
    while (job := plan.take()) is not None:
        taken.append(job.id)
        plan.give_back(job)
    return taken


def test_what_goes_first() -> None:
    """Smoke cells, relations right after their arms, then the longest; alone at the end."""
    jobs = [
        Job("short", expected=1),
        Job("peak", alone=True),
        Job("agree", needs=frozenset({"one", "other"}), related=True, expected=0),
        Job("long", expected=9),
        Job("one", related=True, expected=1),
        Job("other", related=True, expected=5),
        Job("quick", smoke=True, expected=2),
    ]
    assert order(Schedule(jobs)) == ["quick", "one", "other", "agree", "long", "short", "peak"]


def test_nothing_begins_beside_one_that_is_alone() -> None:
    """Nor does that one begin before all others have ended."""
    plan = Schedule([Job("peak", alone=True), Job("a"), Job("b")])
    first, second = plan.take(), plan.take()
    assert first is not None
    assert second is not None
    assert [first.id, second.id] == ["a", "b"]
    plan.give_back(first)
    assert plan._next() is None
    plan.give_back(second)
    assert order(plan) == ["peak"]


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ({}, False),
        ({"memory": {"process_peak_mb": {"max": 1}}, "markers": ["memory"]}, False),
        ({"throughput": {"min_tokens_per_second": 1}}, True),
    ],
)
def test_who_measures_alone(text: dict[str, Any], alone: bool) -> None:
    """What is bounded says so: speed is disturbed by others, a process's own memory isn't."""
    assert measures_alone(Spec.model_validate({"test_id": "a", "recipe": "sft", **text})) is alone


def test_how_many_at_once() -> None:
    """As many as are asked for; else no more than there are cores, memory and devices for."""
    assert [cells_at_once(asked, gpu=False) for asked in (0, 1, 7)] == [1, 1, 7]
    by_itself = cells_at_once(None, gpu=False)
    assert 1 <= by_itself <= (psutil.cpu_count() or 1)
    assert 1 <= cells_at_once(None, gpu=True) <= min(by_itself, CELLS_ON_A_GPU)


def test_what_was_recorded_before(tmp_path: Path) -> None:
    """The newest duration of each cell; exclusions and torn lines have none."""
    store = tmp_path / "results.jsonl"
    assert recorded_seconds(store) == {}
    lines = [{"cell_id": "a", "durations": {"total": seconds}} for seconds in (3, 2)]
    text = "\n".join(map(json.dumps, [*lines, {"cell_id": "b", "durations": {}}, {}, 7]))
    store.write_text(f'torn"}}\n{text}\n{{"cell_id": "c"')
    assert recorded_seconds(store) == {"a": 2.0}


def test_the_time_that_is_left() -> None:
    """At the pace of this run, over those that run at once, and one by one where they are alone."""
    jobs = [Job("a", expected=2), Job("b", expected=4), Job("c", alone=True, expected=1), Job("d")]
    progress = Progress(jobs, at_once=2)
    jobs[0].seconds = 4.0  # twice as long as before
    progress.end(jobs[0])
    assert progress.seconds_left() == pytest.approx((4 * 2 + 4) / 2 + 1 * 2)


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Done, total and time left; not with each cell, and not when all is done."""
    jobs = [Job("a", expected=100), Job("b", expected=200)]
    progress = Progress(jobs, at_once=1)
    jobs[0].seconds = 100.0
    progress.end(jobs[0])
    assert progress.line() is None
    monkeypatch.setattr(schedule, "PROGRESS_SECONDS", 0.0)
    assert progress.line() == "1 of 2 done, about 3 min left"
    progress.end(jobs[1])
    assert progress.line() is None


@pytest.mark.parametrize("left", [Job("b"), Job("b", expected=0.2), Job("b", expected=0.0)])
def test_no_estimate_where_there_is_nothing_to_go_by(
    left: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that was never recorded may take minutes; that of less than a second is none."""
    monkeypatch.setattr(schedule, "PROGRESS_SECONDS", 0.0)
    first = Job("a", expected=50, seconds=50.0)
    progress = Progress([first, left], at_once=1)
    progress.end(first)
    assert (progress.line(), progress.left()) == ("1 of 2 done", "")


def test_cells_run_side_by_side(project: Project) -> None:
    """Without being asked for where there are cores, and by `-n`, in processes of one server."""
    project.spec("a", "meet", quantizers="[plain, tiny-int4]")
    run = project.pytest(*XDIST, "2")
    assert run.code == 0, run.text
    assert run.text.count("imported the libraries once") == 1
    assert len(project.records) == 2


SPEED = "throughput: {min_tokens_per_second: 1}\n"


def test_one_after_the_other(project: Project) -> None:
    """`-n 0`, and cells whose speed is measured, whatever `-n` says."""
    project.spec("a", "avoid", quantizers="[plain, tiny-int4]")
    assert project.pytest(*XDIST, "0").code == 0
    project.spec("a", "avoid", SPEED, quantizers="[plain, tiny-int4]")
    project.spec("b", "avoid", SPEED)
    project.spec("c", "meet", quantizers="[plain, tiny-int4]")
    run = project.pytest(*XDIST, "4")
    assert run.code == 0, run.text


def test_the_smoke_cells_come_first(project: Project) -> None:
    """Whatever their spec is called."""
    project.spec("a", "succeed")
    project.spec("b", "succeed", "markers: [smoke]\n")
    project.pytest(*XDIST, "0")
    assert list(project.outcomes) == ["b[plain-plain]", "a[plain-plain]"]


def test_the_first_failure_ends_what_is_under_way(project: Project) -> None:
    """With -x, nobody waits for the others."""
    project.spec("a", "refuse")
    project.spec("b", "hang")
    started = time.monotonic()
    run = project.pytest(*XDIST, "2", "-x")
    assert run.code == 1
    assert time.monotonic() - started < 60
    assert project.outcomes == {"a[plain-plain]": "failed"}


SLOW_REPORTS = """\
import time
from pathlib import Path


def pytest_runtest_logreport(report):
    deadline = time.monotonic() + 60
    while report.failed and not b_has_ended() and time.monotonic() < deadline:
        time.sleep(0.05)


def b_has_ended():
    for events in Path(".tunematrix").glob("plain/runs/*/b-*/events.jsonl"):
        # What a good cell saved is removed once it is judged.
        if "Finished" in events.read_text() and not events.with_name("output").exists():
            time.sleep(0.5)
            return True
    return False
"""


def test_what_has_ended_is_recorded_though_the_run_stops(project: Project) -> None:
    """A cell that ended while a failure was reported is on record, also if -x ends the run then."""
    project.write("conftest.py", SLOW_REPORTS)
    project.spec("a", "refuse", "markers: [smoke]\n")
    project.spec("b", "succeed")
    assert project.pytest(*XDIST, "2", "-x").code == 1
    assert project.outcomes == {"a[plain-plain]": "failed", "b[plain-plain]": "passed"}


def test_junit_has_the_time_of_each_cell(project: Project) -> None:
    """And not that of being told."""
    project.spec("a", "avoid")
    project.pytest()
    text = (project.root / ".tunematrix/plain/junit.xml").read_text()
    seconds = float(text.partition('name="a[plain-plain]" time="')[2].partition('"')[0])
    assert seconds > 0.4
