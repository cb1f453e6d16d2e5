"""A run that tested nothing is never green, and says why nothing was tested."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest
from tests.plugin.fleets import BACKENDS, OTHER

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb


@pytest.fixture
def lacking(project: Project) -> Project:
    """A project in which nothing can run."""
    project.option("recipe", "lacking", "requires: [no_such_library]\ninstall: pip install it\n")
    project.spec("lacking", "lacking", quantizers="[plain, tiny-int4]")
    return project


LACKING = """
import warnings

import pytest


@pytest.mark.requires_backend("abacus", lacking=lambda: "no beads")
def test_lacking():
    raise AssertionError("ran")
"""


@pytest.mark.each_time(4)
@pytest.mark.parametrize(
    ("other", "arguments", "code"),
    [
        ("", (), 5),
        ("warnings.warn('old')\n", (), 5),
        ("def test_other(): pass\n", ("-k", "lacking"), 5),
        ("def test_other(): pass\n", (), 0),
        ("def test_other(): assert 0\n", (), 1),
        ("def test_other(): pytest.xfail()\n", (), 0),
        ("def test_other(): pytest.skip()\n", (), 5),
    ],
)
def test_every_test_lacks_its_backend(
    project: Project, other: str, arguments: tuple[str, ...], code: int
) -> None:
    """A project's own tests are no success where that is all there is of them."""
    project.write("test_own.py", LACKING + other)
    run = project.pytest("test_own.py", *arguments)
    assert run.code == code, run.text
    assert "UNAVAILABLE test_own.py::test_lacking: backend abacus is una" in run.text


def test_what_is_skipped_is_not_tested(project: Project) -> None:
    """In an environment that was named; elsewhere it is pytest's own affair."""
    project.write("test_own.py", "import pytest\n\n\ndef test_one():\n    pytest.skip()\n")
    run = project.pytest("test_own.py")
    assert (run.code, run.text.splitlines()[-1]) == (5, "nothing was tested: nothing ran")
    assert project.run([sys.executable, "-m", "pytest", "test_own.py"]).code == 0


def test_what_fails_as_is_known_was_tested(lacking: Project) -> None:
    """So the run is a success, whatever lacks beside it."""
    entry = "{when: {quantizer: plain}, raises: ValueError, reason: r, link: 'https://e.org'}"
    lacking.spec("known", "refuse", f"known_failures: [{entry}]\n")
    assert lacking.pytest().code == 0
    assert sorted(set(lacking.outcomes.values())) == ["known_failure", "unavailable"]


REASON = "recipe lacking needs no_such_library; install it with: pip install it"


def test_everything_is_unavailable(lacking: Project) -> None:
    """Each cell is recorded with what it lacks; the run exits with 5 and says it too."""
    run = lacking.pytest()
    assert run.code == 5
    assert f"? unavailable ×2: {REASON}" in run.text
    assert "nothing was tested: every cell was unavailable\n" in run.text
    assert lacking.outcomes == dict.fromkeys(
        ["lacking[plain-plain]", "lacking[plain-tiny-int4]"], "unavailable"
    )
    assert {record["reason"] for record in lacking.records} == {REASON}


def test_a_backend_is_required_of_ones_own_tests(project: Project) -> None:
    """Where there are several environments and none is named: they are run in no one of them."""
    settings = project.root / "pyproject.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + OTHER, encoding="utf-8")
    project.write("conf/backend/other.yaml", "name: other\ndevice: cpu\n")
    project.write("test_own.py", "def test_own():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "--require=plain", "test_own.py"]
    run = project.run(command)
    assert run.code == 0, run.text


def test_a_path_in_the_place_of_text(project: Project) -> None:
    """pytest.main() takes both."""
    project.write("test_own.py", "def test_own():\n    pass\n")
    program = "import pathlib, pytest; raise SystemExit(pytest.main([pathlib.Path('test_own.py')]))"
    assert project.run([sys.executable, "-c", program]).code == 0


def test_what_is_required_fails_where_it_is_unavailable(lacking: Project) -> None:
    """In the required environment it is a failure like any other, beside what passes."""
    lacking.spec("good", "succeed")
    run = lacking.pytest("--require=plain")
    assert run.code == 1
    assert lacking.outcomes["lacking[plain-plain]"] == "unavailable"
    assert lacking.outcomes["good[plain-plain]"] == "passed"
    assert lacking.junit()["lacking[plain-plain]"] == "failure"
    assert run.short_summary == [
        f"UNAVAILABLE specs/lacking.yaml::lacking[plain-{quantizer}] - {REASON}"[:97] + "..."
        for quantizer in ("plain", "tiny-int4")
    ]
    assert "2 failed, 1 passed" in run.text


def test_no_cell_is_selected(project: Project) -> None:
    """Neither records nor a matrix; the way out is named."""
    project.spec("good", "succeed")
    run = project.pytest("--axis=recipe=refuse")
    assert run.code == 5
    assert "nothing was tested: no cell was selected; remove or change --axis\n" in run.text
    assert not (project.root / ".tunematrix/plain/results.jsonl").exists()


@pytest.mark.each_time(2)
def test_the_filters_that_were_given_are_named(project: Project, verb: Verb) -> None:
    """And no others."""
    project.spec("good", "succeed")
    run = project.pytest("--axis=recipe=succeed", "-k", "nothing", "-m", "not slow")
    assert "no cell was selected; remove or change --axis, -k or -m\n" in run.text
    assert "no cell was selected; remove or change -k\n" in project.pytest("-k", "nothing").text
    said = "error: no cell matches in plain; remove or change --axis\n"
    assert verb(project, "plan", "-e", "plain", "--axis", "recipe=refuse") == (5, said)


@pytest.mark.each_time(2)
def test_the_cells_are_of_another_environment(project: Project, verb: Verb) -> None:
    """It is named, though nothing was filtered."""
    settings = project.root / "pyproject.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + OTHER, encoding="utf-8")
    project.write("conf/backend/other.yaml", "name: other\ndevice: cpu\n")
    project.option("recipe", "succeed", BACKENDS)
    project.spec("good", "succeed")
    spec = project.root / "specs/good.yaml"
    text = spec.read_text(encoding="utf-8").replace("{quantizer", "{backend: [other], quantizer")
    spec.write_text(text, encoding="utf-8")
    said = "its cells are of other; try -e other\n"
    assert verb(project, "plan", "-e", "plain") == (5, f"error: no cell matches in plain; {said}")
    run = project.pytest()
    assert (run.code, f"no cell was selected; {said}" in run.text) == (5, True), run.text


def test_only_what_is_unsupported_is_selected(project: Project) -> None:
    """The reason is told, and the way to try it all the same."""
    refusal = '{reason: "so they say", link: "https://example.org/1"}'
    project.option("quantizer", "refused", f"capabilities: {{recipe: {{succeed: {refusal}}}}}\n")
    project.spec("good", "succeed", quantizers="[plain, refused]")
    run = project.pytest("--axis=quantizer=refused")
    assert run.code == 5
    why = "so they say <https://example.org/1>; -m probe tries it"
    assert f"good[plain-refused] is unsupported: {why}\n" in run.text


def test_nothing_of_a_spec_can_run(project: Project) -> None:
    """Where others can, it is on record why it doesn't, instead of nothing at all."""
    refusal = '{reason: "so they say", link: "https://example.org/1"}'
    project.option("quantizer", "refused", f"capabilities: {{recipe: {{succeed: {refusal}}}}}\n")
    project.spec("good", "succeed")
    project.spec("none", "succeed", quantizers="[refused]")
    run = project.pytest()
    assert run.code == 0
    assert "1 unsupported" in run.text
    assert project.outcomes == {"good[plain-plain]": "passed", "none[plain-refused]": "unsupported"}
    assert project.pytest("-k", "good").code == 0
    assert len(project.records) == 3  # what is left out by name has no say


def test_a_spec_that_is_called_otherwise(project: Project) -> None:
    """It would be passed over, and the rest be green."""
    project.spec("good", "succeed")
    project.spec("bad", "refuse")
    (project.root / "specs/bad.yaml").rename(project.root / "specs/bad.YAML")
    run = project.pytest()
    assert run.code == 4
    assert "specs/bad.YAML: would be passed over; call it bad.yaml" in run.text


@pytest.mark.parametrize("name", [b"odd-\xff", b"odd-\x1b[2J", b"odd-\n", b"odd-\x1b[2J/name"])
def test_a_spec_whose_name_cannot_be_shown(project: Project, name: bytes) -> None:
    """pytest would write it to the terminal as it is."""
    text = "test_id: odd\nrecipe: succeed\nmatrix: {quantizer: [plain]}\n"
    try:
        project.write(f"specs/{os.fsdecode(name)}.yaml", text)
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        pytest.skip("this disk takes names in UTF-8 alone")
    run = project.pytest()
    assert run.code == 4, run.text
    assert "has characters in its name that don't show; rename it" in run.text
    assert "\x1b" not in run.text


def test_specs_behind_a_link(project: Project) -> None:
    """To a folder: it isn't followed, which might lead anywhere, and that is said."""
    project.spec("good", "succeed")
    project.write("away/bad.yaml", "test_id: bad\nrecipe: refuse\nmatrix: {quantizer: [plain]}\n")
    (project.root / "specs/away").symlink_to("../away")
    run = project.pytest()
    assert run.code == 4
    assert "specs/away: links to a folder with specs, which isn't followed; name" in run.text
    project.write("away/bad.yaml", "train: [a.txt]\nval: [b.txt]\n")
    assert project.pytest().code == 0


def test_a_folder_without_specs(project: Project) -> None:
    """It is named, so that a wrong path isn't taken for a short suite."""
    (project.root / "specs").mkdir()
    run = project.pytest()
    assert run.code == 5
    assert run.text.strip() == (
        "Exit: specs: holds no spec, so nothing would be tested; "
        "add a .yaml file or name another folder"
    )


def test_a_run_that_is_refused_leaves_no_older_result(project: Project) -> None:
    """An earlier JUnit file would be taken for this run's."""
    older = project.write(".tunematrix/plain/junit.xml", "<testsuites/>")
    project.spec("good", "succed")
    assert project.pytest().code == 4
    assert not older.exists()
