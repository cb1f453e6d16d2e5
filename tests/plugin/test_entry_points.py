"""What installed distributions add: each group of entry points, and what is wrong in some."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.distributions import Points, install

from tunematrix.errors import BadInput
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import SHIPPED, log_readers, read_log
from tunematrix.matrix.capabilities import first_no
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.plugins import plugin_folders
from tunematrix.paths import shipped_configs
from tunematrix.proof.faults.catalogue import Entry, discover, read_entries

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

LIBRARY = """
import os, pathlib

pathlib.Path(os.environ["IMPORTED"]).touch()


class ZipQ:
    def __init__(self, bits):
        self.bits = bits


def zip_up(config, events, output_dir):
    from hydra.utils import instantiate
    from tunematrix.evidence.events import Determinants

    quantizer = instantiate(config.quantizer.implementation)
    events.write(Determinants({"bits": quantizer.bits, "folded": os.environ.get("FOLDED")}))
"""
FAULTS = '''
import os

import zipq
from tunematrix.faults.catalogue import fault


@fault("quantizer", replaces=(zipq.ZipQ, "__init__"), seen_by=("lora[*-lora-hqq-int4]",))
def one_bit_lost(original, quantizer, bits, *, config, call):
    """Keep one bit less than was asked for."""
    os.environ["FOLDED"] = f"{config.quantizer.name} {call}"
    original(quantizer, bits - 1)
'''
READER = '''
import re

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import LogContent


def read(log):
    """Read a log whose first line says `zipq 1`."""
    if not log.head.startswith(b"zipq 1"):
        return None
    lines = re.findall(r"(\\d+): (.+)", log.text())
    return LogContent(tuple(LoggedStep(int(step), float(loss)) for step, loss in lines))
'''
QUANTIZER = """
name: zipq-int6
requires: [zipq]
implementation: {_target_: zipq.ZipQ, bits: 6}
capabilities:
  launcher:
    single: true
    ddp: true
    fsdp: {reason: "packed weights can't be spread", raises: RuntimeError}
"""
ZIPQ = {
    "zipq/__init__.py": LIBRARY,
    "zipq/faults.py": FAULTS,
    "zipq/logs.py": READER,
    "zipq/configs/quantizer/zipq-int6.yaml": QUANTIZER,
    "zipq/configs/recipe/zip.yaml": (
        "name: zip\nimplementation: {_target_: zipq.zip_up, _partial_: true}\n"
    ),
    "zipq/configs/method/zip-lora.yaml": (
        "name: zip-lora\ntrains_base: false\nlearning_rates: {adaptive: 0.01, plain: 1.0}\n"
    ),
    "zipq/configs/backend/zipper.yaml": "name: zipper\nengine: python\nmax_grad_norm: 0.0\n",
}
POINTS = {
    "tunematrix.quantizers": {"zipq": "zipq:configs"},
    "tunematrix.methods": {"zipq": "zipq:configs"},
    "tunematrix.recipes": {"zipq": "zipq:configs"},
    "tunematrix.backends": {"zipq": "zipq.configs"},
    "tunematrix.faults": {"zipq": "zipq.faults"},
    "tunematrix.log_readers": {"zipq": "zipq.logs:read"},
}
CELL = "zips[zipper-zip-lora-zipq-int6]"

Install = Callable[[Mapping[str, str], Points], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution called `zipq-plugin` for this process and those it starts."""

    def install_here(files: Mapping[str, str], points: Points) -> None:
        site = str(install(tmp_path, "zipq_plugin", files, points))
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", _path(site))
        monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))

    return install_here


def _path(site: str) -> str:
    return os.pathsep.join([site, *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """A project that asks for what a plug-in brings, which is installed."""
    project = new_project()
    site = install(project.root, "zipq_plugin", ZIPQ, POINTS)
    project.variables["PYTHONPATH"] = _path(str(site))
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


@pytest.mark.parametrize(
    ("files", "value", "reason"),
    [
        ({}, "zipq.faults", "ModuleNotFoundError: No module named 'zipq'"),
        ({"zipq.py": "1 / 0\n"}, "zipq", "line 1: ZeroDivisionError: division by zero"),
        ({"zipq.py": "def helper(one): ...\n"}, "zipq", "has no fault; write a context manager"),
    ],
)
def test_a_module_of_faults_that_can_not_be_used(
    add: Install, tmp_path: Path, files: dict[str, str], value: str, reason: str
) -> None:
    """Told with its distribution, before the catalogue is imported."""
    add(files, {"tunematrix.faults": {"zipq": value}})
    with pytest.raises(BadInput) as caught:
        discover([], tmp_path / "list.json")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(
        f"mend it, or uninstall zipq_plugin 1.0 (entry point zipq = {value} of tunematrix.faults)"
    )


def test_faults_of_a_plugin_and_one_that_claims_a_name(add: Install, tmp_path: Path) -> None:
    """They are listed with their distribution; a score would count one of two of the same name."""
    text = (
        "from tunematrix.faults.catalogue import fault\n"
        '@fault("data")\ndef labels_shuffled(config):\n    """Shuffle."""\n    yield\n'
    )
    points = {"tunematrix.faults": {"taken": "zipq.data", "zipq": "zipq.faults"}}
    add({**ZIPQ, "zipq/data.py": text}, points)
    with pytest.raises(BadInput) as caught:
        discover([], tmp_path / "list.json")
    whose = "zipq_plugin 1.0 (entry point taken = zipq.data of tunematrix.faults)"
    assert str(caught.value) == (
        f"two faults are called data.labels_shuffled, in zipq.data, of {whose} and "
        f"tunematrix.faults.data; rename a file or a fault, or uninstall {whose}"
    )
    entries = {entry.target: entry for entry in read_entries(tmp_path / "list.json")}
    assert entries.pop("zipq.data:labels_shuffled").origin == whose
    assert entries.pop("zipq.faults:one_bit_lost") == Entry(
        module="zipq.faults",
        name="one_bit_lost",
        fault_class="quantizer",
        summary="Keep one bit less than was asked for.",
        seen_by=("lora[*-lora-hqq-int4]",),
        origin="zipq_plugin 1.0 (entry point zipq = zipq.faults of tunematrix.faults)",
    )
    assert {entry.origin for entry in entries.values()} == {""}


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


@pytest.mark.parametrize(
    ("files", "value", "reason"),
    [
        ({}, "zipq:configs", "zipq can't be found; name a package that holds the config folder"),
        (
            {"zipq.py": ""},
            "zipq",
            "zipq is no package; name a package that holds",
        ),
        ({"zipq/__init__.py": ""}, "zipq.configs", "zipq.configs is no package; name a package"),
        ({"zipq/__init__.py": ""}, "zipq:configs", "there is no quantizer/NAME.yaml in "),
    ],
)
def test_an_entry_point_without_options(
    add: Install, files: dict[str, str], value: str, reason: str
) -> None:
    """Told with the distribution, the entry point and what to do."""
    add(files, {"tunematrix.quantizers": {"zipq": value}})
    with pytest.raises(BadInput) as caught:
        plugin_folders()
    start = f"zipq_plugin 1.0 (entry point zipq = {value} of tunematrix.quantizers): {reason}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("or uninstall the distribution")


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("quantizer/hqq-int4", "name: hqq-int4\n", "quantizer/hqq-int4.yaml already; rename yours"),
        ("quantizer/zipq", "name: zipq\nbits: 6\n", "2: bits: is not a known key; it can be "),
    ],
)
def test_a_plugins_option_that_is_wrong(add: Install, file: str, text: str, reason: str) -> None:
    """A name that is taken, or a key that nothing reads, is told with whose file it is."""
    files = {"zipq/__init__.py": "", f"zipq/configs/{file}.yaml": text}
    add(files, {"tunematrix.quantizers": {"zipq": "zipq:configs"}})
    with pytest.raises(BadInput) as caught:
        read_groups([shipped_configs()], plugin_folders())
    assert f"{file}.yaml:" in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(
        "or uninstall what brings it: "
        "zipq_plugin 1.0 (entry point zipq = zipq:configs of tunematrix.quantizers)"
    )


def test_the_command_line_says_what_is_wrong_with_a_plugin(new_project: NewProject) -> None:
    """As with any other bad input: exit code 4, and no traceback."""
    project = new_project()
    project.spec("good", "succeed")
    points = {"tunematrix.recipes": {"zipq": "zipq"}}
    site = install(project.root, "zipq_plugin", {}, points)
    project.variables["PYTHONPATH"] = _path(str(site))
    run = project.tunematrix("plan", "--environment=plain")
    assert run.code == 4, run.text
    assert "zipq_plugin 1.0 (entry point zipq = zipq of tunematrix.recipes): zipq can't" in run.text
    assert "Traceback" not in run.text


def test_a_log_that_a_plugin_reads(add: Install, tmp_path: Path) -> None:
    """It is recognised by what is in it, as the shipped form is."""
    add(ZIPQ, POINTS)
    (tmp_path / "any.log").write_text("zipq 1\n1: 3.5\n2: 3.25\n")
    readers = log_readers()
    assert list(readers) == [*SHIPPED, "zipq"]
    log = read_log(tmp_path / "any.log", readers)
    assert log.reader == "zipq"
    assert log.steps == (LoggedStep(1, 3.5), LoggedStep(2, 3.25))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("trainer_state", "zipq.logs:read", "there is a log reader trainer_state already; rename"),
        ("zipq", "nowhere:read", "can't be imported: ModuleNotFoundError: No module named 'now"),
        ("zipq", "zipq.logs:reed", "can't be imported: AttributeError: "),
        ("zipq", "zipq.logs:__doc__", "is NoneType, not a function of a log file; mend it"),
    ],
)
def test_a_log_reader_that_can_not_be_used(
    add: Install, name: str, value: str, reason: str
) -> None:
    """Told with the distribution, the entry point and what to do."""
    add(ZIPQ, {"tunematrix.log_readers": {name: value}})
    with pytest.raises(BadInput) as caught:
        log_readers()
    whose = f"zipq_plugin 1.0 (entry point {name} = {value} of tunematrix.log_readers)"
    assert str(caught.value).startswith(f"{whose}: {reason}")
    assert str(caught.value).endswith("or uninstall the distribution")
