"""`tunematrix report`: what was recorded is shown again, or it is said what is wrong with it."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Verb

OTHER = """
[tool.tunematrix.environments.other]
description = "The same, elsewhere"
backends = ["plain"]
"""


def recorded(project: Project, environment: str, *outcomes: Outcome) -> str:
    """Write records of a run of an environment, and return their file."""
    axes = {"backend": "plain", "recipe": "sft", "method": "lora", "quantizer": "none"}
    path = project.root / f".tunematrix/{environment}/results.jsonl"
    for number, outcome in enumerate(outcomes):
        run_id, name = f"20261128-141907-{environment}", f"a[{number}]"
        record = Record(run_id, name, "a.yaml", environment, axes, outcome, f"why {number}")
        Store(path).append(record)
    return str(path.relative_to(project.root))


def test_a_section_for_each_environment(project: Project, verb: Verb) -> None:
    """Whether they are named, or their files are."""
    with (project.root / "pyproject.toml").open("a") as file:
        file.write(OTHER)
    files = [recorded(project, name, "passed", "passed") for name in ("plain", "other")]
    for arguments in (["-e", "plain", "-e", "other"], files):
        code, text = verb(project, "report", *arguments)
        assert code == 0
        for name in ("plain", "other"):
            assert f"{name}   run 20261128-141907-{name}, 2026-11-28 14:19\n" in text
        assert text.count("✓  sft     lora    none       ✓2\n") == 2


def test_reasons_on_request(project: Project, verb: Verb) -> None:
    """What failed is always told."""
    recorded(project, "plain", "failed", "known_failure", "unsupported")
    short, whole = (verb(project, "report", "-e", "plain", *more)[1] for more in ((), ("--all",)))
    again = "  tunematrix run -e plain 'a.yaml::a[0]'\n"
    for text in (short, whole):
        assert f"✗ a[0]\n  why 0\n{again}" in text
    assert "1 cell is declared unsupported and 1 is known to fail; --all shows why\n" in short
    assert "why 1" not in short and "why 2" not in short
    assert "≈ known failure ×1: why 1\n    a[1]\n· unsupported ×1: why 2\n    a[2]\n" in whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "a record of schema 99, and this tunematrix reads"),
        ({"outcome": "splendid"}, "not a record (outcome: Input should be 'passed', 'failed', "),
        ({"colour": "red"}, "not a record (colour: Unexpected keyword argument)"),
    ],
)
def test_records_that_cannot_be_read(
    project: Project, verb: Verb, change: dict[str, object], message: str
) -> None:
    """They are refused with file and line."""
    file = project.root / recorded(project, "plain", "passed")
    odd = {**json.loads(file.read_text()), **change}
    with file.open("a") as lines:
        lines.write(json.dumps(odd) + "\n")
    code, text = verb(project, "report", "-e", "plain")
    assert code == 4
    assert f"results.jsonl:2: {message}" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.md", None, "No such file or directory"),
        ("conf", None, "Is a directory"),
        ("odd.md", b"\xff", "can't decode"),
        ("bare.md", b"# A page\n", "the page has no place for the table; write <!-- verified -->"),
    ],
)
def test_pages_that_take_no_table(
    project: Project, verb: Verb, name: str, content: bytes | None, message: str
) -> None:
    """It is said what is wrong with them."""
    if content is not None:
        (project.root / name).write_bytes(content)
    file = recorded(project, "plain", "passed")
    code, text = verb(project, "report", "-e", "plain", file, "--readme", name)
    assert (code, message in text) == (4, True)


def test_markdown_and_tensorboard(project: Project, verb: Verb) -> None:
    """A page to a file or to the standard output, and a folder of event files."""
    recorded(project, "plain", "failed", "passed")
    code, text = verb(project, "report", "-e", "plain", "--markdown", "new/page.md")
    assert (code, text) == (0, "")
    page = (project.root / "new/page.md").read_text(encoding="utf-8")
    assert page.startswith("## ✗ `plain`\n\ncells: ✗ 1 failed, ✓ 1 passed\n")
    assert verb(project, "report", "-e", "plain", "--markdown", "-") == (0, page)
    code, text = verb(project, "report", "-e", "plain", "--tensorboard", "tb")
    assert (code, text) == (0, "0 runs are in tb\n")
    assert verb(project, "report", "-e", "plain", "--markdown", "conf")[0] == 6


def test_files_that_are_no_records(project: Project, verb: Verb) -> None:
    """Absent ones and empty ones."""
    (project.root / "empty.jsonl").touch()
    assert verb(project, "report", "gone.jsonl")[0] == 4
    code, text = verb(project, "report", "empty.jsonl")
    assert (code, "there is no record in empty.jsonl" in text) == (5, True)
    (project.root / "torn.jsonl").write_text('{"schema_ver', encoding="utf-8")
    for verb_ in (["report", "torn.jsonl", "--html", "page.html"], ["history", "--add"]):
        code, text = verb(project, *verb_, "empty.jsonl")
        assert (code, "run nox" in text) == (5, False)
        assert "empty.jsonl; a file of records has a line for each cell that has ended" in text


def test_a_folder_that_is_a_file(project: Project, verb: Verb) -> None:
    """Records can't be kept there."""
    file = recorded(project, "plain", "passed")
    code, text = verb(project, "report", file, "--save", "pyproject.toml")
    assert (code, "Not a directory" in text) == (6, True)


def test_a_terminal_that_knows_no_symbols(project: Project) -> None:
    """They are shown by their numbers there."""
    recorded(project, "plain", "passed")
    command = ["report", "-e", "plain"]
    project.variables.update(PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    run = project.tunematrix(*command)
    assert run.code == 0, run.text
    assert r"cells: \u2713 1 passed" in run.text


def test_several_views_at_once(project: Project, verb: Verb) -> None:
    """All but one of them would go missing, so none is written."""
    recorded(project, "plain", "passed")
    options = {"--html": "a.html", "--markdown": "-", "--tensorboard": "b", "--save": "c"}
    for first, second in itertools.combinations(options, 2):
        given = [first, options[first], second, options[second]]
        code, text = verb(project, "report", "-e", "plain", *given)
        assert code == 4
        assert f"{first}" in text and f"{second}" in text and "once for each" in text
    assert verb(project, "report", "-e", "plain", "--json", "--html", "a.html")[0] == 4
    assert not [name for name in ("a.html", "b", "c") if (project.root / name).exists()]


def test_a_record_in_two_files_counts_once(project: Project, verb: Verb) -> None:
    """A file that is given twice, or its copy, which doesn't know where the evidence lies."""
    file = recorded(project, "plain", "passed", "passed", "unsupported")
    code, text = verb(project, "report", file, file)
    assert code == 0
    assert "cells: ✓ 2 passed   · 1 unsupported\n" in text


def test_a_message_moves_no_cursor(project: Project, verb: Verb) -> None:
    """Also where it quotes a file of somebody else."""
    file = recorded(project, "plain", "passed")
    text = (project.root / file).read_text().replace('"overrides"', r'"\u001b[2J\u009b31m"')
    (project.root / file).write_text(text)
    for arguments in (["report", file], ["report", file, "--html", "a.html"]):
        code, said = verb(project, *arguments)
        assert code == 4
        assert r"\x1b[2J\x9b31m: Unexpected keyword argument" in said
        assert not {"\x1b", "\x9b"} & set(said)
