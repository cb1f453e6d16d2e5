"""Bad input ends the run before it begins: exit code 4, file and line, no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tunematrix
from tunematrix.errors import BadInput

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Verb

BAD_SPECS = {
    "twin.yaml": "test_id: good\nrecipe: succeed\n",
    "bomb.yaml": "a: &a [x, x]\ntest_id: bomb\nrecipe: *a\n",
    "tag.yaml": 'test_id: !!python/object/apply:os.system ["id"]\nrecipe: succeed\n',
    "typo.yaml": "test_id: typo\nrecipe: succeed\ntimeuot: 4\n",
    "torn.yaml": "test_id: torn\n  recipe: [",
    "gone.yaml": "",
}
FINDINGS = [
    "specs/bomb.yaml:1: the anchor &a is not allowed; write the value itself",
    "specs/bomb.yaml:3: the alias *a is not allowed; write the value itself",
    "specs/gone.yaml: can't be read (no such file or directory); check path and permissions",
    "specs/tag.yaml:1: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed; "
    "write the value itself",
    "specs/torn.yaml:2: is not YAML (mapping values are not allowed in this context); check "
    "indentation, colons and quotes",
    "specs/twin.yaml:1: test_id: good is also the name of specs/good.yaml:1; rename one",
    "specs/typo.yaml:3: timeuot: is not a known key; did you mean timeout?",
]


@pytest.fixture(scope="module")
def wrong(new_project: NewProject) -> Project:
    """A project with one good spec, and others with all kinds of faults."""
    project = new_project()
    project.spec("good", "succeed")
    for name, text in BAD_SPECS.items():
        project.write(f"specs/{name}", text)
    (project.root / "specs/gone.yaml").unlink()
    (project.root / "specs/gone.yaml").symlink_to("nowhere")
    return project


def test_all_that_is_wrong_is_said_at_once(wrong: Project) -> None:
    """Each with its line and what to do, in order; once, whatever number of workers there is."""
    run = wrong.pytest("-p", "xdist.plugin", "-n", "2")
    assert run.code == 4
    assert run.text.strip().splitlines() == ["ERROR: 7 problems to correct:", *FINDINGS]


def test_the_verbs_say_the_same(wrong: Project, verb: Verb) -> None:
    """Without pytest; and whatever they can't make sense of has that one exit code."""
    said = "\n".join(["error: 7 problems to correct:", *FINDINGS, ""])
    assert verb(wrong, "plan", "--environment=plain") == (4, said)
    code, text = verb(wrong, "paln")
    assert (code, "No such command 'paln'" in text) == (4, True)


@pytest.mark.each_time(3)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--environment=plian"], "plian is not an environment; did you mean plain?"),
        (
            ["--axis=quantiser=plain", "--axis=quantizer=plian", "--collect-only"],
            "--axis quantiser=plain: quantiser is not an axis; did you mean quantizer?\n"
            "--axis quantizer=plian: plian is not an option of quantizer; did you mean plain?",
        ),
        (
            ["--fault=no_such_module:fault"],
            "--fault no_such_module:fault: there is no module no_such_module; "
            "write MODULE:NAME of one that Python finds from here, or FILE.py:NAME",
        ),
        (
            ["--fault=tiny_recipes:plnat"],
            "--fault tiny_recipes:plnat: there is no fault plnat in tiny_recipes; "
            "did you mean plant?",
        ),
        (
            ["--fault=tiny_recipes.py:plnat"],
            "--fault tiny_recipes.py:plnat: there is no fault plnat in tiny_recipes.py; "
            "did you mean plant?",
        ),
        (
            ["--override-ini=tunematrix_configs=missing"],
            "1 problem to correct:\n"
            "missing: there is no such folder; check the path of the configs",
        ),
        (
            ["specs/godo.yaml"],
            "1 problem to correct:\n"
            "specs/godo.yaml: can't be read (no such file or directory); "
            "check path and permissions",
        ),
    ],
)
def test_an_option_that_leads_nowhere(project: Project, arguments: list[str], message: str) -> None:
    """It is named, with what was meant or what to do."""
    project.spec("good", "succeed")
    run = project.pytest(*arguments)
    assert (run.code, run.text.strip()) == (4, f"ERROR: {message}")
    assert not (project.root / ".tunematrix").exists()


def test_a_cell_that_there_is_not(project: Project) -> None:
    """What was meant is named; a name without its brackets stands for all that begin with it."""
    project.spec("good", "succeed")
    run = project.pytest("specs/good.yaml::good[plain-plian]")
    said = "there is no cell good[plain-plian]; did you mean good[plain-plain]? tunematrix plan"
    assert (run.code, said in run.text) == (4, True), run.text
    assert project.pytest("specs/good.yaml::good").code == 0


def test_watching_for_a_device_that_there_is_not(project: Project, verb: Verb) -> None:
    """Nothing is trained first, in a command or in a block."""
    said = "device gpu: is not a kind of device; it can be cuda, mps, cpu"
    watched = ("watch", "--device", "gpu", "--", "python", "-c", "open('trained', 'w')")
    assert verb(project, *watched) == (4, f"error: {said}\n")
    with pytest.raises(BadInput, match=said), tunematrix.watch(device="gpu"):
        project.write("trained", "")
    assert not (project.root / "trained").exists()


def test_a_pyproject_that_cannot_be_read(project: Project, verb: Verb) -> None:
    """The verbs read it before pytest could."""
    project.write("pyproject.toml", "[tool.tunematrix\n")
    code, text = verb(project, "run")
    assert (code, text.count("\n")) == (4, 1)
    assert text.startswith("error: pyproject.toml: can't be read: ")


def test_a_folder_that_no_system_has(project: Project) -> None:
    """Its name has a null character; `plan` says where, and pytest that it is so."""
    project.spec("good", "succeed")
    settings = project.root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8").replace('["specs"]', '["specs\\u0000"]', 1)
    settings.write_text(text, encoding="utf-8")
    run = project.pytest("specs")
    assert (run.code, "INTERNALERROR" in run.text) == (4, False), run.text
    assert "a folder of specs or configs has a null character in its name" in run.text
