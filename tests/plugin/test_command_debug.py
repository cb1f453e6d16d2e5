"""Debug mode from the command line: each configuration once, each launcher once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.plugin.test_command import install

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb

DEBUG = """launchers = ["single", "processes"]
debug.max_steps = {value = 2, changes = "steps"}
"""
SPEC = """
test_id: {name}
project_dir: examples/toy
config: {name}.yaml
dynamic_args: {{max_steps: 50}}
gpu_requirement: 0
loss: {{final_max: 0.001}}
"""


def write(project: Project) -> None:
    """Write two configurations of a trainer that has two launchers."""
    for name in ("one", "two"):
        project.write(f"specs/{name}.yaml", SPEC.format(name=name))
    install(project, DEBUG)


def test_the_plan_is_a_sum(project: Project, verb: Verb) -> None:
    """Two launchers and two configurations are four cells, and not more."""
    write(project)
    code, text = verb(project, "plan", "-e", "plain", "--debug-mode")
    assert code == 0, text
    assert "2 environments + 2 configs = 4" in text
    assert "one-launched[plain-processes]" in text


def test_every_configuration_runs_lightly(project: Project) -> None:
    """With two steps, whatever its spec says, and without bounds that two steps can't meet."""
    write(project)
    run = project.pytest("--debug-mode", "-p", "xdist.plugin", "-n", "1")
    assert run.code == 0, run.text
    assert set(project.outcomes.values()) == {"passed"}
    assert len(project.outcomes) == 4
    lines = {
        check["measured"]
        for record in project.records
        for check in record["checks"]
        if check["name"] == "steps_logged"
    }
    assert lines == {2}


def test_any_other_override_is_refused(project: Project, verb: Verb) -> None:
    """By its name, with its line, before anything runs."""
    project.write("specs/three.yaml", SPEC.format(name="three").replace("max_steps", "batch"))
    install(project, DEBUG)
    code, text = verb(project, "plan", "-e", "plain", "--debug-mode")
    assert code == 4
    assert "specs/three.yaml:5: dynamic_args.batch: batch is not on the allow-list" in text
    code, text = verb(project, "run", "-e", "plain", "--debug-mode", "train.max_steps=3")
    assert code == 4
    assert "debug mode takes no overrides (train.max_steps)" in text
