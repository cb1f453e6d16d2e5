"""What the process that lists faults makes of a module: its faults, or why it can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.proof.faults.catalogue import discover
from tunematrix.proof.faults.listing import _rows

FAULT = """
import contextlib

@contextlib.contextmanager
def halves(config):
    \"\"\"Halve something.\"\"\"
    yield
"""


def rows(folder: Path, text: str) -> list[dict[str, object]]:
    """What is written down of a file."""
    file = folder / "mine.py"
    file.write_text(text)
    return [{**row, "module": ""} for row in _rows(str(file))]


def test_a_fault_with_all_that_it_may_say(tmp_path: Path) -> None:
    """Its class, and where it can be seen."""
    said = 'halves.fault_class = "loss"\nhalves.seen_by = ["full[*-full-none]"]\n'
    said += "halves.fitted = True\n"
    assert rows(tmp_path, FAULT + said) == [
        {
            "module": "",
            "name": "halves",
            "fault_class": "loss",
            "seen_by": ["full[*-full-none]"],
            "fitted": True,
            "subtle": False,
            "summary": "Halve something.",
            "origin": "",
        }
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("halves.fault_class = 7", "line 4: halves: fault_class has to be a word, got 7"),
        ("halves.fault_class = ''", "line 4: halves: fault_class has to be a word, got ''"),
        ("halves.seen_by = 'a'", "line 4: halves: seen_by has to be a tuple of ids, got 'a'"),
        ("halves.seen_by = (3,)", "line 4: halves: seen_by has to be a tuple of ids, got (3,)"),
        ("halves.subtle = 1", "line 4: halves: subtle has to be True or False, got 1"),
        ("halves.seen_by = 5", "line 4: halves: seen_by has to be a tuple of ids, got 5"),
    ],
)
def test_attributes_of_other_kinds(tmp_path: Path, said: str, told: str) -> None:
    """Each is told with the fault and its line."""
    assert [row["error"] for row in rows(tmp_path, f"{FAULT}{said}\n")] == [told]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def plain(config):\n    yield\n", "(plain lacks @contextlib.contextmanager)"),
        ("async def late(config):\n    yield\n", "(late is asynchronous)"),
        ("def helper(one, two):\n    pass\n", "(helper takes another number of arguments)"),
        ("def helper(one):\n    pass\n", "(helper is not a context manager)"),
        ("", "configuration"),
    ],
)
def test_a_module_without_a_fault(tmp_path: Path, text: str, why: str) -> None:
    """What looked like one is named, with what it lacks."""
    (row,) = rows(tmp_path, text)
    assert str(row["error"]).startswith("has no fault; write a context manager")
    assert str(row["error"]).endswith(why)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\nos._exit(0)\n", "ended its process with exit code 0"),
        ("import os\nos._exit(3)\n", "ended its process with exit code 3"),
    ],
)
def test_a_module_that_ends_the_process(tmp_path: Path, text: str, told: str) -> None:
    """No list of an earlier run is taken for its own."""
    file, out = tmp_path / "mine.py", tmp_path / "list" / "catalogue.json"
    file.write_text(text)
    out.parent.mkdir()
    out.write_text("[]")
    with pytest.raises(BadInput, match=f"importing .*mine.py {told}"):
        discover([file], out)


def test_another_catalogue_alone(tmp_path: Path) -> None:
    """Neither the shipped faults nor those of distributions come along."""
    file = tmp_path / "mine.py"
    file.write_text(FAULT)
    found = discover([], tmp_path / "out.json", [str(file)])
    assert [entry.id for entry in found] == ["mine.halves"]


@pytest.mark.parametrize(
    ("name", "told"), [("", "is a folder"), ("no.py", "no such file"), ("f.txt", "ends in .py")]
)
def test_what_is_no_python_file(tmp_path: Path, name: str, told: str) -> None:
    """Told before anything is imported."""
    (tmp_path / "f.txt").touch()
    with pytest.raises(BadInput, match=told):
        discover([tmp_path / name], tmp_path / "catalogue.json")


def test_a_secret_in_what_a_module_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays off the screen."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    file = tmp_path / "mine.py"
    file.write_text(
        "import os\nprint(os.environ['HF_TOKEN'], file=__import__('sys').stderr)\nos._exit(1)"
    )
    with pytest.raises(BadInput, match="<HF_TOKEN>"):
        discover([file], tmp_path / "catalogue.json")
