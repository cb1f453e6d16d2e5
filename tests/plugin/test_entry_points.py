"""What installed distributions add, by each group of entry points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.distributions import Install, install, path_with
from tests.plugin.zip_quantizer import POINTS, ZIPQ

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import SHIPPED, log_readers, read_log
from tunematrix.matrix.capabilities import first_no
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.plugins import plugin_folders
from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

CELL = "zips[zipper-zip-lora-zipq-int6]"


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """A project that asks for what a plug-in brings, which is installed."""
    project = new_project()
    site = install(project.root, "zipq_plugin", ZIPQ, POINTS)
    project.variables["PYTHONPATH"] = path_with(str(site))
    project.variables["IMPORTED"] = str(project.root / "imported")
    settings = project.root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace('backends = ["plain"]', 'backends = ["zipper"]'))
    axes = "{backend: [zipper], method: [zip-lora], quantizer: [zipq-int6]}"
    project.write("specs/zips.yaml", f"test_id: zips\nrecipe: zip\nmatrix: {axes}\n")
    return project


def noticed(project: Project) -> Any:
    """What the newest run of the cell wrote down."""
    run_dir = [record["run_dir"] for record in project.records if record["cell_id"] == CELL][-1]
    events = map(json.loads, (project.root / run_dir / "events.jsonl").read_text().splitlines())
    return next(event["values"] for event in events if event["kind"] == "Determinants")


def test_planning_reads_options_and_imports_nothing_of_a_plugin(project: Project) -> None:
    """Its libraries may take as long to import as they like, or need a device."""
    run = project.tunematrix("plan", "--environment=plain", "--json")
    assert run.code == 0, run.text
    assert CELL in run.text
    assert not (project.root / "imported").exists()


def test_a_cell_of_a_plugins_backend_quantizer_method_and_recipe(project: Project) -> None:
    """Its options are options as any other, and what they name is what runs."""
    run = project.pytest("--keep-output")
    assert run.code == 0, run.text
    (record,) = (record for record in project.records if record["cell_id"] == CELL)
    assert record["outcome"] == "passed"
    axes = {"backend": "zipper", "quantizer": "zipq-int6", "method": "zip-lora", "recipe": "zip"}
    assert axes.items() <= record["axes"].items()
    assert noticed(project) == {"bits": 6, "folded": None}


def test_a_cell_under_a_plugins_fault(project: Project) -> None:
    """Its replacement is told the configuration, and which call it is."""
    run = project.pytest("--keep-output", "--fault=zipq.faults:one_bit_lost")
    assert run.code == 0, run.text
    assert noticed(project) == {"bits": 5, "folded": "zipq-int6 1"}


def test_a_plugin_answers_for_options_that_do_not_know_it(add: Install) -> None:
    """A shipped launcher lists the quantizers it works with; it can't list this one."""
    silent = {"zipq/configs/quantizer/zipq-int5.yaml": "name: zipq-int5\n"}
    add({**ZIPQ, **silent}, POINTS)
    groups = read_groups([shipped_configs()], plugin_folders())

    def refusal(launcher: str, quantizer: str) -> str | None:
        option = groups.axes["launcher"][launcher]
        axes = {**groups.defaults, "launcher": launcher, "quantizer": quantizer}
        found = first_no(option.file, option.declared, axes)
        return found.reason if found else None

    assert refusal("ddp", "zipq-int6") is None
    assert refusal("fsdp", "zipq-int6") == "packed weights can't be spread"
    undeclared = "quantizer zipq-int5 is not declared in launcher/ddp.yaml"
    assert refusal("ddp", "zipq-int5") == undeclared


def test_a_log_that_a_plugin_reads(add: Install, tmp_path: Path) -> None:
    """It is recognised by what is in it, as the shipped form is."""
    add(ZIPQ, POINTS)
    (tmp_path / "any.log").write_text("zipq 1\n1: 3.5\n2: 3.25\n")
    readers = log_readers()
    assert list(readers) == [*SHIPPED, "zipq"]
    log = read_log(tmp_path / "any.log", readers)
    assert log.reader == "zipq"
    assert log.steps == (LoggedStep(1, 3.5), LoggedStep(2, 3.25))
