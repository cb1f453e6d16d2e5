"""A foreign trainer as a command: honest runs pass, and each sabotage fails by the right check."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

TRAINER = Path(__file__).with_name("toy_trainer.py")
TOY = """
[tool.tunematrix.trainers.toy]
command = [
    "{python}", "train.py", "--config", "{config}", "--output-dir", "{output_dir}",
    "{dynamic_args}",
]
"""
# A spec of the document's form, but for the GPU that it needs by default.
SPEC = """
test_id: {name}
project_dir: examples/toy
config: toy.yaml
dynamic_args:
  max_steps: {steps}
  way: {way}
loss:
  final_max: 8.0
  no_nan: true
stderr:
  forbidden_patterns: ["RuntimeError", "Traceback"]
  warn_patterns: ["error_rate"]
expected_files: [trainer_logs.json]
min_steps_logged: 2
timeout: 60
gpu_requirement: 0
markers: [integration]
"""
MB = 1e6

# Ways to run it, and the checks that must fail; none for honest ones.
WAYS: dict[str, set[str]] = {
    "honest": set(),
    "allocate": set(),
    "mention": set(),
    "print_much": set(),
    "nan": {"finite_loss", "final_loss"},
    "hidden_nan": {"finite_loss"},
    "flat": {"loss_falls", "final_loss"},
    "zero_rate": {"loss_falls", "learning_rate_logged", "final_loss"},
    "old_log": {"trainer_log", "final_loss"},
    "no_log": {"trainer_log", "final_loss", "expected_files"},
    "do_nothing": {"trainer_log", "final_loss", "expected_files"},
    "no_checkpoint": {"expected_files"},
    "pollute": {"repository_clean"},
    "ignore_output": {
        "trainer_log", "final_loss", "expected_files",
        "repository_clean",
    },
    "child": {"left_behind"},
    "daemon": {"left_behind"},
    "ask": {"exit", "stderr"},
    "fail": {"exit"},
    "raise": {"exit", "stderr"},
    "hang": {"exit"},
}  # fmt: skip
REASONS = {
    "nan": "finite_loss: step 4 logged nan",
    "hidden_nan": "finite_loss: step 4 logged a loss of exactly 0 after ",
    "zero_rate": "final_loss: step 8 logged",
    "old_log": "trainer_logs.json (762 bytes: of an earlier run)",
    "no_checkpoint": "expected_files: not made by this run: model.safetensors; it made trainer_",
    "pollute": "repository_clean: changed while it ran: examples/toy/cache.bin",
    "child": "left_behind: still running after the cell (ended now): sleep 600",
    "ask": "EOFError: EOF when reading a line",
    "fail": "exit: the trainer's command failed without a word",
    "raise": "ValueError: no such template: toy.yaml",
    "hang": "exit: ran past its 2 s; stderr.log has every thread's stack",
}


def install(project: Project, more: str = "") -> None:
    """Put the trainer into a project that is under version control."""
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(f"{pyproject.read_text()}{TOY}{more}", encoding="utf-8")
    folder = project.root / "examples/toy"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(TRAINER, folder / "train.py")
    project.write(".gitignore", ".tunematrix/\n")
    commit(project)


def commit(project: Project) -> None:
    """Commit all there is."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project.root, check=True)


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """One run of all the ways, one after the other, so that no cell sees another's files."""
    project = new_project()
    for way in WAYS:
        spec = SPEC.format(name=way, way=way, steps=8)
        if way == "hang":
            spec = spec.replace("timeout: 60", "timeout: 2")
        if way == "no_checkpoint":
            spec = spec.replace("[trainer_logs.json]", "[trainer_logs.json, model.safetensors]")
        project.write(f"specs/{way}.yaml", spec)
    install(project)
    return project, project.pytest("-p", "xdist.plugin", "-n", "1")


@pytest.mark.each_time(8)
@pytest.mark.parametrize("way", WAYS)
def test_each_sabotage_fails_by_the_checks_that_it_should(
    ran: tuple[Project, Run], way: str
) -> None:
    """And honest runs by none; a process that fails is judged by that alone."""
    project, run = ran
    record = project.record[f"{way}[plain]"]
    failed = {check["name"] for check in record["checks"] if check["outcome"] == "failed"}
    assert failed == WAYS[way], run.text
    assert record["outcome"] == ("failed" if WAYS[way] else "passed")
    assert REASONS.get(way, "") in record["reason"]


def test_what_is_printed_goes_to_files(ran: tuple[Project, Run]) -> None:
    """A gigabyte of it as well, none of which passes through the driver."""
    project, _ = ran
    (log,) = (project.root / ".tunematrix/plain/runs").glob("*/print_much-*/stdout.log")
    assert log.stat().st_size == 2**30
    log.unlink()


def test_memory_is_that_of_the_whole_command(ran: tuple[Project, Run]) -> None:
    """Its peak, as the kernel tells it."""
    project, _ = ran
    peak = project.record["allocate[plain]"]["metrics"]["process_peak_mb"]
    assert 200 < peak < 400
    assert project.record["honest[plain]"]["metrics"]["process_peak_mb"] < 100


def test_warnings_on_stderr_decide_nothing(ran: tuple[Project, Run]) -> None:
    """They are reported."""
    project, _ = ran
    checks = {one["name"]: one for one in project.record["mention[plain]"]["checks"]}
    assert checks["stderr_warning"]["outcome"] == "warned"


def test_the_driver_imports_no_library_for_it(ran: tuple[Project, Run]) -> None:
    """Nor does it start the process that others are forked from."""
    project, run = ran
    assert "imported the libraries" not in run.text
    assert project.record["honest[plain]"]["machine"]["isolation"] == "command"
