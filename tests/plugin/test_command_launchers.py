"""A trainer's command in several processes: who is to blame, and whether one and two agree."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from tests.plugin.test_command import SPEC, install

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

WAYS = {
    "honest": "",
    "rank_raises": "exit: rank 1 of 2 raised an exception:",
    "rank_killed": "exit: rank 1 of 2 was ended by SIGKILL:",
    "rank_hangs": "ran past its 8 s; 2 processes were still at work when the time was over:",
}
RELATION = """
test_id: agrees
project_dir: examples/toy
config: toy.yaml
dynamic_args: {max_steps: 6}
gpu_requirement: 0
expected_files: [trainer_logs.json]
loss: {falls: true}
relation:
  arms:
    one: {launcher: single, dynamic_args.batch: 10}
    two: {launcher: processes, dynamic_args.batch: 5}
  compare: [losses]
  tolerance: {losses: 1.0e-6}
"""


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """One run of two processes, each in its way, and of relations between one and two."""
    project = new_project()
    for way in WAYS:
        spec = SPEC.format(name=way, way=way, steps=8) + "matrix: {launcher: [processes]}\n"
        if way == "rank_hangs":
            spec = spec.replace("timeout: 60", "timeout: 8")
        project.write(f"specs/{way}.yaml", spec)
    project.write("specs/agrees.yaml", RELATION)
    other = RELATION.replace("agrees", "differs").replace("batch: 5", "batch: 4")
    project.write("specs/differs.yaml", other)
    lonely = SPEC.format(name="lonely", way="honest", steps=8)
    project.write("specs/lonely.yaml", lonely + "matrix: {launcher: [torchrun]}\n")
    install(project)
    return project, project.pytest("-p", "xdist.plugin", "-n", "1")


@pytest.mark.each_time(2)
@pytest.mark.parametrize("way", WAYS)
def test_a_rank_that_fails_is_named_with_its_last_lines(ran: tuple[Project, Run], way: str) -> None:
    """Whether it raised, was killed, or kept the others waiting."""
    project, run = ran
    record = project.record[f"{way}[plain-processes]"]
    assert record["outcome"] == ("failed" if WAYS[way] else "passed"), run.text
    assert WAYS[way] in record["reason"]
    if way == "rank_hangs":
        assert re.search("rank 1: File .*train.py.* in misbehave", record["reason"])


def test_two_processes_agree_with_one(ran: tuple[Project, Run]) -> None:
    """In loss, where each has half of the batch."""
    project, run = ran
    assert project.outcomes["agrees[plain]"] == "passed", run.text
    assert project.record["agrees[plain]"]["arms"] == ["agrees[plain-one]", "agrees[plain-two]"]


def test_another_batch_does_not_agree(ran: tuple[Project, Run]) -> None:
    """Though each of the two is right by itself."""
    project, _ = ran
    assert project.outcomes["differs[plain]"] == "failed"
    assert project.record["differs[plain]"]["reason"].startswith("same_losses: ")
    assert project.outcomes["differs[plain-two]"] == "passed"


def test_a_launcher_that_has_no_backend_here_is_declared(ran: tuple[Project, Run]) -> None:
    """torchrun knows cpu and cuda; a cell for another backend is no cell."""
    project, run = ran
    plan = json.loads(project.tunematrix("plan", "-e", "plain", "--json").text)
    assert not [one for one in plan["cells"] if one["spec"] == "lonely"], run.text
