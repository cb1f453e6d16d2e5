"""torchrun and accelerate launch for real: two processes agree with one, and the one to blame."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

TRAINER = Path(__file__).with_name("torchrun_trainer.py")
TOY = """
[tool.tunematrix.trainers.ddp]
command = ["{python}", "train.py", "--output-dir", "{output_dir}", "{dynamic_args}"]
"""
SPEC = """
test_id: {way}
recipe: command
dynamic_args: {{way: {way}}}
matrix: {{launcher: [torchrun]}}
timeout: {timeout}
"""
RELATION = """
test_id: agrees
recipe: command
expected_files: [done.json]
min_steps_logged: 6
relation:
  arms:
    one: {launcher: single, dynamic_args.batch: 8}
    same: {launcher: torchrun-one, dynamic_args.batch: 8}
    two: {launcher: torchrun, dynamic_args.batch: 4}
    accelerated: {launcher: accelerate, dynamic_args.batch: 4}
  compare: [losses]
  tolerance: {losses: 1.0e-4}
"""

# Trainers whose command starts what the launcher is to start, and one that lives for a moment.
LAUNCHED = """
[tool.tunematrix.trainers.brief]
command = ["sh", "-c", 'sleep 0.3; touch "$0/$RANK"; echo step 1 loss 3', "{output_dir}"]

[tool.tunematrix.trainers.overrides]
command = ["--nproc-per-node=1", "{python}", "plain.py", "{output_dir}"]

[tool.tunematrix.trainers.nested]
command = [
    "{python}", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1",
    "plain.py", "{output_dir}",
]

[tool.tunematrix.trainers.plain]
command = ["{python}", "plain.py", "{output_dir}"]
"""
PLAIN = """import time
print("step 1 | loss 3.0", flush=True)
time.sleep(0.5)
"""
LAUNCHES = {
    ("brief", "torchrun"): "",
    ("brief", "accelerate"): "",
    ("brief", "processes"): "",
    ("plain", "torchrun-one"): "",
    ("overrides", "torchrun"): "and 1 did (processes with a log of their own); likely the trainer",
    ("nested", "processes"): "and 1 did (WORLD_SIZE of the innermost processes); likely the",
    ("plain", "forgetful"): "and 0 did (processes with a log of their own); likely the trainer",
}
LAUNCH_SPEC = """
test_id: {trainer}-{launcher}
recipe: command
trainer: {trainer}
matrix: {{launcher: [{launcher}]}}
loss: {{falls: false}}
"""
SHIPPED = Path(__file__).parents[2] / "configs/launcher/accelerate.yaml"


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """One run on the backend cpu, whose commands are the same as anybody's."""
    project = new_project()
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(f"{pyproject.read_text()}{TOY}".replace('["plain"]', '["cpu"]'))
    project.write("specs/raises.yaml", SPEC.format(way="raises", timeout=120))
    project.write("specs/hangs.yaml", SPEC.format(way="hangs", timeout=40))
    shutil.copy(TRAINER, project.root / "train.py")
    return project, project.pytest()


@pytest.mark.nightly
def test_processes_agree_whoever_starts_them(ran: tuple[Project, Run]) -> None:
    """One, one that is distributed, and two of torchrun's and of accelerate's."""
    project, _ = ran
    project.write("specs/agrees.yaml", RELATION)
    run = project.pytest("specs/agrees.yaml")
    assert project.outcomes["agrees[cpu]"] == "passed", run.text


def test_a_rank_that_raises_is_named(ran: tuple[Project, Run]) -> None:
    """With the exception that it raised, and not with what its death did to others."""
    project, run = ran
    reason = project.record["raises[cpu-torchrun]"]["reason"]
    assert reason.startswith("exit: rank 1 of 2 raised an exception:"), run.text
    assert "RuntimeError: rank 1 has no data left" in reason


def test_a_rank_that_hangs_is_named(ran: tuple[Project, Run]) -> None:
    """With the line in which it waits, while the other waits for it."""
    project, run = ran
    reason = project.record["hangs[cpu-torchrun]"]["reason"]
    assert "rank 1 of 2 kept the others waiting until the time was over:" in reason, run.text
    assert re.search(r"train\.py\", line \d+ in <module>", reason)


@pytest.fixture(scope="module")
def launched(new_project: NewProject) -> tuple[Project, Run]:
    """One run of each launch; the forgetful launcher is accelerate as most people call it."""
    project = new_project()
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(f"{pyproject.read_text()}{LAUNCHED}".replace('["plain"]', '["cpu"]'))
    forgetful = re.sub("^  - --multi_gpu.*\n", "", SHIPPED.read_text(), flags=re.M)
    assert forgetful != SHIPPED.read_text()
    project.write(
        "conf/launcher/forgetful.yaml", forgetful.replace("accelerate\n", "forgetful\n", 1)
    )
    project.write("plain.py", PLAIN)
    for trainer, launcher in LAUNCHES:
        spec = LAUNCH_SPEC.format(trainer=trainer, launcher=launcher)
        project.write(f"specs/{trainer}-{launcher}.yaml", spec)
    return project, project.pytest()


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("trainer", "launcher"), LAUNCHES)
def test_processes_that_train_together_are_counted(
    launched: tuple[Project, Run], trainer: str, launcher: str
) -> None:
    """Those that live for a moment, too; and a command that ignores its launcher is found out."""
    project, run = launched
    record = project.record[f"{trainer}-{launcher}[cpu-{launcher}]"]
    failed = [check["name"] for check in record["checks"] if check["outcome"] == "failed"]
    wrong = LAUNCHES[trainer, launcher]
    assert failed == (["ranks_started"] if wrong else []), run.text
    assert wrong in record["reason"]
