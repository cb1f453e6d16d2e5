"""What a trainer's command and its record say: its seed, what had an effect, what it found."""

from __future__ import annotations

import importlib.metadata
import re
import sysconfig
import venv
from typing import TYPE_CHECKING

import pytest
from tests.plugin.test_command import SPEC, TOY, install

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

APART = TOY.replace("trainers.toy", "trainers.apart") + 'python = "own/bin/python"\n'
BY_NAME = TOY.replace("trainers.toy", "trainers.by_name").replace("{python}", "own/bin/trainer")
BY_NAME += 'working_directory = "."\n'
UNKNOWN = TOY.replace("trainers.toy", "trainers.unknown").replace('"{python}"', '"env", "python3"')
TRAINERS = {"toy": "", "apart": APART, "by_name": BY_NAME, "unknown": UNKNOWN}


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """One run of trainers in this virtualenv and in one of their own, which has one package."""
    project = new_project()
    own = project.root / "own"
    venv.create(own, symlinks=True, with_pip=False)
    (packages,) = own.glob("lib/python*/site-packages")
    (packages / "Toy_Package.x-1.2.3+cpu.dist-info").mkdir()
    (own / "bin/trainer").symlink_to("python")
    for name in TRAINERS:
        spec = SPEC.format(name=name, way="honest", steps=8)
        project.write(f"specs/{name}.yaml", f"{spec}trainer: {name}\n")
    install(project, "".join(TRAINERS.values()).replace('"train.py"', '"{project_dir}/train.py"'))
    return project, project.pytest("-p", "xdist.plugin", "-n", "1")


def test_only_axes_with_an_effect_are_recorded(ran: tuple[Project, Run]) -> None:
    """A quantizer or a precision would be what tunematrix has by default, and nothing it did."""
    project, run = ran
    assert set(project.outcomes.values()) == {"passed"}, run.text
    axes = {"backend": "plain", "launcher": "single", "recipe": "command"}
    assert {name: project.record[f"{name}[plain]"]["axes"] for name in TRAINERS} == dict.fromkeys(
        TRAINERS, axes
    )


def test_versions_are_those_of_this_virtualenv(ran: tuple[Project, Run]) -> None:
    """Where the command runs in it: what the metadata of its distributions say, in indexes' names.

    The metadata are read here as importlib reads them.
    """
    recorded = ran[0].record["toy[plain]"]["versions"]
    found = {
        re.sub(r"[-_.]+", "-", one.name).lower(): one.version
        for one in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    assert recorded["psutil"] == importlib.metadata.version("psutil")
    assert recorded == {name: found[name] for name in sorted(recorded)}
    assert found.keys() - recorded.keys() <= {"tunematrix"}, "which may be a source tree"


@pytest.mark.parametrize("name", ["apart", "by_name"])
def test_versions_are_those_of_a_virtualenv_of_its_own(ran: tuple[Project, Run], name: str) -> None:
    """Whether the trainer names its Python, or a program of that virtualenv."""
    recorded = ran[0].record[f"{name}[plain]"]["versions"]
    assert recorded["toy-package-x"] == "1.2.3+cpu"
    assert "psutil" not in recorded


def test_no_versions_are_made_up(ran: tuple[Project, Run]) -> None:
    """Nobody knows what a program without a virtualenv will start."""
    assert ran[0].record["unknown[plain]"]["versions"] == {}


SEEDED = """
[tool.tunematrix.trainers.seeded]
command = ["sh", "-c", 'echo "step 1 | loss $0.$TUNEMATRIX_SEED"', "{seed}", "{output_dir}"]

[tool.tunematrix.trainers.by_variable]
command = ["sh", "-c", 'echo "step 1 | loss $SEED.5"', "{output_dir}"]
environment = {SEED = "{seed}"}

[tool.tunematrix.trainers.deaf]
command = ["sh", "-c", 'echo "step 1 | loss 3.5"', "{output_dir}"]
"""


def write_seeded(project: Project, *trainers: str) -> None:
    """Write trainers that log the seed they are given, and a spec for each."""
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + SEEDED)
    for name in trainers:
        project.write(f"specs/{name}.yaml", f"test_id: {name}\nrecipe: command\ntrainer: {name}\n")


def test_each_seed_is_another_run(project: Project) -> None:
    """In a word of the command, in the trainer's own variable, and in ours."""
    write_seeded(project, "seeded", "by_variable")
    run = project.pytest("--seeds=3")
    assert run.code == 0, run.text
    printed = {
        cell: (project.root / record["run_dir"] / "stdout.log").read_text().split()[-1]
        for cell, record in project.record.items()
    }
    of_words = {f"seeded[plain]@{seed}": f"{seed}.{seed}" for seed in range(3)}
    assert printed == of_words | {f"by_variable[plain]@{seed}": f"{seed}.5" for seed in range(3)}


def test_a_command_that_takes_no_seed_is_refused(project: Project) -> None:
    """By its name, with what to do; without --seeds it runs."""
    write_seeded(project, "seeded", "deaf")
    run = project.pytest("--seeds=2")
    assert run.code == 4
    said = (
        "specs/deaf.yaml:3: trainer: --seeds would be the same run several times, since the "
        "command of trainer deaf (pyproject.toml) takes no seed; add {seed} to it, or to a "
    )
    assert said in run.text, run.text
    assert "seeded.yaml" not in run.text
    assert project.pytest("--seeds=2", "specs/seeded.yaml").code == 0
    assert project.pytest("specs/deaf.yaml").code == 0
