"""Entry points that bring nothing, or what can't be used: told with their distribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.plugin.distributions import Install, install, path_with
from tests.plugin.zip_quantizer import ZIPQ

from tunematrix.errors import BadInput
from tunematrix.evidence.readers import log_readers
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.plugins import plugin_folders
from tunematrix.paths import shipped_configs
from tunematrix.proof.faults.catalogue import Entry, discover, read_entries

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject


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
    project.variables["PYTHONPATH"] = path_with(str(site))
    run = project.tunematrix("plan", "--environment=plain")
    assert run.code == 4, run.text
    assert "zipq_plugin 1.0 (entry point zipq = zipq of tunematrix.recipes): zipq can't" in run.text
    assert "Traceback" not in run.text


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
