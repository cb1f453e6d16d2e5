"""What is known of releases: the file, the ranges, and the cells that it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.configuration.releases import LimitOfReleases, covers
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan
from tunematrix.matrix.releases import narrowed, version_here
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec, load_specs

CPU = Environment("cpu", "", ("cpu",))
ENTRY = """
{section}:
  - releases: {releases}
    when: {when}
    reason: it can't
    link: https://example.org/1
"""


def _limit(releases: str, when: str = "{method: dora}", section: str = "limits") -> str:
    return ENTRY.format(releases=releases, when=when, section=section)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Groups]:
    """Reads the shipped config groups, with a releases.yaml of a project's own beside them."""

    def with_file(text: str) -> Groups:
        own = tmp_path / "own"
        own.mkdir(exist_ok=True)
        (own / "releases.yaml").write_text(text)
        return read_groups([shipped_configs(), own])

    return with_file


@pytest.mark.parametrize(
    ("releases", "holds"),
    [
        ({"trl": "<0.20"}, True),
        ({"trl": "<0.19.1"}, False),
        ({"trl": ">=0.19,<0.20", "transformers": "<4.54"}, True),
        ({"trl": "<0.20", "transformers": "<4.53"}, False),
        ({"trl": "<0.20", "torchao": "<9"}, False),
        ({"torch": "<2.8"}, True),
        ({"torch": "<2.7.1"}, False),
        ({"torch": "==2.7.1"}, True),
        ({"peft": "<=0.16.0"}, True),
    ],
)
def test_ranges(releases: dict[str, str], holds: bool) -> None:
    """All that is named has to be there, in its range; local and early releases count as well."""
    have = {"trl": "0.19.1", "transformers": "4.53.0", "torch": "2.7.1+cpu", "peft": "0.16.0rc1"}
    assert covers(releases, have.get) is holds


def test_nothing_shipped_is_known_of_the_newest(shipped: Groups) -> None:
    """Each entry ends before them, so they are tested in full."""
    assert shipped.releases
    found = narrowed(shipped.releases, lambda name: "999")
    assert not found.faults and not found.limits


def test_a_limit_is_an_exclusion(
    read: Callable[[str], Groups], load: Callable[[str], Spec]
) -> None:
    """With the version as its reason, and only where that version is installed."""
    spec = load("matrix: {method: [lora, dora]}")
    here = plan([spec], read(_limit('{pytest: "<999"}')), CPU)
    assert [cell.id for cell in here.cells] == ["a[cpu-lora]"]
    (exclusion,) = here.exclusions
    assert exclusion.cell.id == "a[cpu-dora]"
    assert exclusion.reason == f"it can't (pytest {version_here('pytest')})"
    assert (exclusion.link, exclusion.declared_in) == ("https://example.org/1", "releases.yaml")
    for other in ('{pytest: "<1"}', '{pytest: "<999", no-such-thing: "<1"}'):
        assert not plan([spec], read(_limit(other)), CPU).exclusions


def test_a_limit_of_one_spec(read: Callable[[str], Groups], load: Callable[[str], Spec]) -> None:
    """`spec` stands for its name."""
    groups = read(_limit('{pytest: "<999"}', "{spec: a, method: dora}"))
    assert len(plan([load("matrix: {method: [lora, dora]}")], groups, CPU).exclusions) == 1
    groups = read(_limit('{pytest: "<999"}', "{spec: b}"))
    assert not plan([load("matrix: {method: [lora, dora]}")], groups, CPU).exclusions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_limit("{trl: old}"), r"own/releases\.yaml:3: .*is no range"),
        (_limit('{trl: ">=0.26"}'), r"has no end"),
        (_limit("{}"), r"1 or more entries"),
        (_limit('{trl: "<1"}', "{metod: lora}"), r":4: .*is not an axis; did you mean method"),
        (_limit('{trl: "<1"}', "{method: lra}"), r":4: .*lra is not an option; did you mean lora"),
        (_limit('{trl: "<1"}', section="faults"), r"names no failure; give checks or raises"),
        (_limit('{trl: "<1"}', section="limts"), r"limts: is not a known key"),
    ],
)
def test_what_is_wrong(read: Callable[[str], Groups], text: str, said: str) -> None:
    """Each mistake is told with its file and line."""
    with pytest.raises(BadInput, match=said):
        read(text)


def test_a_misspelt_check(read: Callable[[str], Groups]) -> None:
    """It could never fail."""
    groups = read(_limit('{trl: "<1"}', section="faults") + "    checks: [moved, lables]\n")
    with pytest.raises(BadInput, match=r"releases\.yaml:7: faults\[0\].*did you mean labels"):
        refuse_unknown_checks(groups)


def test_the_specs_that_entries_name_exist(shipped: Groups) -> None:
    """Or what is known of them would hold nowhere."""
    specs = {spec.test_id for spec in load_specs([shipped_configs() / "specs"])}
    specs |= {spec.test_id for spec in load_specs([shipped_configs() / "regressions/specs"])}
    for file in shipped.releases:
        for section, index, entry in file.entries():
            named = entry.when.get("spec", ())
            missing = {named} - specs if isinstance(named, str) else {*named} - specs
            assert not missing, f"{section}[{index}]"


def test_each_entry_holds_for_some_cell(shipped: Groups) -> None:
    """A limit that leaves nothing out is a mistake."""
    bare = replace(shipped, releases=())
    suite = plan(load_specs([shipped_configs() / "specs"]), bare, CPU)
    for entry in (one for file in shipped.releases for one in file.table.limits):
        names = {axis: wanted for axis, wanted in entry.when.items() if axis != "backend"}
        other = LimitOfReleases.model_validate({**entry.model_dump(), "when": names})
        assert any(_is_left_out(cell.place, other) for cell in suite.cells), entry.reason


def _is_left_out(place: object, entry: LimitOfReleases) -> bool:
    from tunematrix.matrix.capabilities import of_release

    assert isinstance(place, dict)
    return of_release([entry], place) is not None
