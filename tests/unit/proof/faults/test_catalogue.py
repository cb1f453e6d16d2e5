from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.faults.catalogue import CLASSES
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.paths import PACKAGE, shipped_configs
from tunematrix.project import read_project
from tunematrix.proof.faults.catalogue import Entry, Views, discover, read_views, units_of
from tunematrix.spec.loader import load_specs


def entry(fault_class: str = "other", seen_by: tuple[str, ...] = ()) -> Entry:
    """A fault from outside."""
    return Entry("/somewhere/mine.py", "worse", fault_class, "Makes it worse.", seen_by)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The shipped suite in the environment cpu."""
    project = read_project(PACKAGE, "cpu")
    specs = load_specs([shipped_configs() / "specs"])
    return make_plan(specs, project.groups, project.environment)


@pytest.fixture(scope="module")
def views() -> Views:
    """The shipped table."""
    return read_views(read_groups([shipped_configs()]))


def ids(one: Entry, views: Views, plan: Plan) -> list[str]:
    """Where a fault is tried."""
    return [unit.id for unit in units_of(one, views, plan)]


def test_what_a_fault_is_called() -> None:
    """Its module and its name, whether it comes from a package or a file."""
    assert entry().id == "mine.worse"
    assert Entry("tunematrix.faults.data", "shuffled", "data", "", ()).id == "data.shuffled"
    assert entry().target == "/somewhere/mine.py:worse"


def test_each_shipped_pattern_names_exactly_one(views: Views, plan: Plan) -> None:
    """A pattern that matches nothing would never be tried, and nobody would see."""
    there = {cell.id for cell in plan.cells} | {related.id for related in plan.relations}
    for patterns in (*views.classes.values(), views.everything):
        for pattern in patterns:
            assert pattern.replace("[*", "[cpu") in there


def test_each_class_has_its_cells(views: Views) -> None:
    """No class of the catalogue is left to chance."""
    assert tuple(views.classes) == CLASSES


def test_those_of_its_class_come_first_and_all_others_after(views: Views, plan: Plan) -> None:
    """What its class can see first is cheap; what slips past is tried everywhere."""
    found = ids(entry("scheduler"), views, plan)
    assert found[:2] == ["schedules[cpu-lora-cosine]", "schedules[cpu-lora-linear]"]
    assert "generate[cpu-none]" in found
    assert len(found) == len(set(found))


def test_its_own_come_before_those_of_its_class(views: Views, plan: Plan) -> None:
    """A fault knows best."""
    found = ids(entry("scheduler", ("lora[*-lora-hqq-int4]",)), views, plan)
    assert found[:2] == ["lora[cpu-lora-hqq-int4]", "full[cpu-full-none]"]


def test_a_class_that_is_not_known_is_tried_everywhere(views: Views, plan: Plan) -> None:
    """Faults from outside need no class of ours."""
    assert len(ids(entry("weather"), views, plan)) == len(views.everything)


def test_a_cell_that_there_is_not(views: Views, plan: Plan) -> None:
    """A fault that could never run is refused before anything does."""
    with pytest.raises(BadInput, match=r"mine.worse: no cell or relation is called lora\[none\]"):
        units_of(entry(seen_by=("lora[none]",)), views, plan)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("everything: 3\nclasses: {}\n", r"faults.yaml:1: everything: .*list"),
        ("everything: []\n", "classes: is missing"),
        ("everything: []\nclasses: {}\nmore: 1\n", "faults.yaml:3: more"),
    ],
)
def test_a_malformed_table(tmp_path: Path, text: str, told: str) -> None:
    """Refused with file and line."""
    (tmp_path / "faults.yaml").write_text(text)
    with pytest.raises(BadInput, match=told):
        read_views(read_groups([shipped_configs(), tmp_path]))


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    """Said before any library is imported."""
    with pytest.raises(BadInput, match=r"nowhere.py: there is no such file"):
        discover([tmp_path / "nowhere.py"], tmp_path / "out.json")


def test_classes_are_read_from_the_table(tmp_path: Path) -> None:
    """A project may have a table of its own."""
    text = 'classes: {data: ["lora[*]"]}\neverything: []\n'
    (tmp_path / "faults.yaml").write_text(text)
    found: Mapping[str, tuple[str, ...]] = read_views(
        read_groups([shipped_configs(), tmp_path])
    ).classes
    assert found == {"data": ("lora[*]",)}


def test_another_catalogue_says_what_is_different(tmp_path: Path, views: Views) -> None:
    """Its modules lie beside it; what it doesn't say of cells, the usual table does."""
    file = tmp_path / "other.yaml"
    file.write_text('modules: [mine.py, a.module]\nclasses: {data: ["lora[*]"]}\n')
    found = read_views(read_groups([shipped_configs()]), file)
    assert found.modules == (str(tmp_path / "mine.py"), "a.module")
    assert found.classes == {**views.classes, "data": ("lora[*]",)}
    assert found.everything == views.everything


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("classes: {}\n", r"other.yaml: it names no module of faults; add .*my_faults.py"),
        ("modules: [a.py]\nmore: 1\n", r"other.yaml:2: more"),
        ("modules: 3\n", r"other.yaml:1: modules: .*list"),
        (None, r"--catalogue .*other.yaml: there is no such file"),
    ],
)
def test_another_catalogue_that_is_of_no_use(tmp_path: Path, text: str | None, told: str) -> None:
    """Refused before any library is imported."""
    file = tmp_path / "other.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_views(read_groups([shipped_configs()]), file)
