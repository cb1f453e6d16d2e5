from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunematrix.spec.yaml_tree import MAX_BYTES, read_tree, read_value


def read(tmp_path: Path, content: str | bytes) -> tuple[dict[str, object], list[str]]:
    """Write a file, read it, and return its data and its problems as text."""
    file = tmp_path / "file.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    tree = read_tree(file)
    shown = [str(problem).removeprefix("file.yaml") for problem in tree.problems]
    return dict(tree.data), shown


@pytest.mark.parametrize("text", ["3e-4", "3E-4", "3.e-4", "0.3e-3", ".3e-3", "0.0003"])
def test_exponents_are_numbers(tmp_path: Path, text: str) -> None:
    """A learning rate is a number however it is written."""
    data, problems = read(tmp_path, f"rate: {text}\n")
    assert (data, problems) == ({"rate": 3e-4}, [])


@pytest.mark.parametrize(
    "text",
    ["1:30", "1:30.5", "0120", "00", "1_0", "1_0.5", "0b11", "-0b1", "0o17", "007"],
)
def test_numbers_that_are_read_in_two_ways(tmp_path: Path, text: str) -> None:
    """YAML 1.1 and 1.2 make other numbers of them, or text; in quotes they are text to both."""
    _, problems = read(tmp_path, f"a: 1\nb: {text}\n")
    advice = "write the number in plain decimals, or quote it"
    assert problems == [f":2: b: readers of YAML disagree what {text} is; {advice}"]
    assert read(tmp_path, f"b: '{text}'\n") == ({"b": text}, [])


@pytest.mark.parametrize("text", ["off", "on", "yes", "no", "Yes", "OFF"])
def test_words_that_are_read_in_two_ways(tmp_path: Path, text: str) -> None:
    """As true or false by YAML 1.1, as text by YAML 1.2."""
    _, problems = read(tmp_path, f"a: [{text}]\n")
    assert problems == [
        f":1: a[0]: readers of YAML disagree what {text} is; write true or false, or quote it"
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-3", -3), ("+3", 3), ("0x1F", 31), ("1.", 1.0), (".5", 0.5), ("True", True)],
)
def test_what_all_read_alike(tmp_path: Path, text: str, value: object) -> None:
    """Stays as it is."""
    assert read(tmp_path, f"a: {text}\n") == ({"a": value}, [])


def test_plain_types(tmp_path: Path) -> None:
    """Everything else keeps YAML's types, and a date is text."""
    data, problems = read(
        tmp_path, "a: 1\nb: 1.5\nc: true\nd: null\ne: x\nf: '1'\ng: 2024-01-01\nh: [1, x]\ni: {}\n"
    )
    assert problems == []
    assert data == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": "x",
        "f": "1",
        "g": "2024-01-01",
        "h": [1, "x"],
        "i": {},
    }


def test_lines_of_every_entry(tmp_path: Path) -> None:
    """Keys and list entries know their lines, and an absent one that of its section."""
    file = tmp_path / "file.yaml"
    file.write_text("a:\n  b:\n    - x\n    - y\n  c: 1\n")
    tree = read_tree(file)
    assert tree.line(("a", "b", 1)) == 4
    assert tree.line(("a", "c")) == 5
    assert tree.line(("a", "absent", "deeper")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: 2\n", [":1: the anchor &x is not allowed; write the value itself"]),
        ("b: 1\na: *x\n", [":2: the alias *x is not allowed; write the value itself"]),
        (
            "a: !!python/name:os.system 1\n",
            [
                ":1: the tag tag:yaml.org,2002:python/name:os.system is not allowed; "
                "write the value itself"
            ],
        ),
        ("a: !mine {b: 1}\n", [":1: the tag !mine is not allowed; write the value itself"]),
        ("a: 1\n---\nb: 2\n", [":2: a second document begins; one spec, one file"]),
        ("a: 1\nb: 2\na: 3\n", [":3: a: is given twice, first in line 1; remove one"]),
        ("s:\n  a: 1\n  a: 3\n", [":3: s.a: is given twice, first in line 2; remove one"]),
        ("on: 1\n", [":1: the key on is not text; put it in quotes"]),
        ("s: {1: 2}\n", [":1: s: the key 1 is not text; put it in quotes"]),
        ("? [a, b]\n: 1\n", [":1: the key is not text; put it in quotes"]),
        ("", [": is empty; write it or delete it"]),
        ("# nothing\n", [": is empty; write it or delete it"]),
        ("- a\n", [": is not a mapping; write `key: value` lines at the top"]),
        ("just text\n", [": is not a mapping; write `key: value` lines at the top"]),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    """What YAML allows and a spec doesn't is named with its line and what to do."""
    _, problems = read(tmp_path, text)
    assert problems == expected


def test_bomb_is_refused_unexpanded(tmp_path: Path) -> None:
    """Aliases of aliases, which would expand to billions of entries, are refused at once."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    data, problems = read(tmp_path, "\n".join(lines))
    assert data == {}
    assert problems[0] == ":1: the anchor &a0 is not allowed; write the value itself"


@pytest.mark.parametrize(("depth", "is_refused"), [(20, False), (21, True), (120_000, True)])
def test_nesting(tmp_path: Path, depth: int, is_refused: bool) -> None:
    """Nesting is limited before anything recurses into it; the mapping at the top counts."""
    text = "a: " + "[" * (depth - 1) + "]" * (depth - 1)
    _, problems = read(tmp_path, text)
    assert problems == ([":1: is nested over 20 deep; flatten it"] if is_refused else [])


@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\n  b: 2\n", 2), ("a: [1, 2\n", 2), ("a: @b\n", 1), ("'a\n", 2)]
)
def test_syntax_errors(tmp_path: Path, text: str, line: int) -> None:
    """Broken YAML is told with the parser's line and reason."""
    _, problems = read(tmp_path, text)
    assert len(problems) == 1
    assert problems[0].startswith(f":{line}: is not YAML (")
    assert problems[0].endswith("; check indentation, colons and quotes")


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\n\tb: 2\n", 2), ("a:\n\tb: 2\n", 2), ("\ta: 1\n", 1), ("a: >\n\tb\n", 2)],
)
def test_tabs(tmp_path: Path, text: str, line: int) -> None:
    """Nobody sees them, so they are named."""
    said = "this line holds a tab; YAML is indented by spaces"
    assert read(tmp_path, text)[1] == [f":{line}: {said}"]
    with pytest.raises(ValueError, match=said):
        read_value(text)


def test_control_characters(tmp_path: Path) -> None:
    """Characters that YAML doesn't allow are no traceback."""
    _, problems = read(tmp_path, "a: \x00\n")
    assert "is not YAML (" in problems[0]


def test_not_utf_8(tmp_path: Path) -> None:
    """Another encoding is refused; a byte order mark is fine."""
    assert read(tmp_path, "a: ü".encode("latin-1"))[1] == [
        ": is not UTF-8 (byte 3); save it as UTF-8"
    ]
    assert read(tmp_path, b"\xef\xbb\xbfa: 1") == ({"a": 1}, [])


def test_size_is_limited(tmp_path: Path) -> None:
    """A file of the largest size is read, and one more byte refused."""
    padding = "#" * (MAX_BYTES - len("a: 1\n"))
    assert read(tmp_path, f"a: 1\n{padding}") == ({"a": 1}, [])
    assert read(tmp_path, f"a: 1\n{padding}#")[1] == [": is larger than 256 KiB; split it"]


def test_endless_number(tmp_path: Path) -> None:
    """A number that Python refuses to convert is a problem with its line."""
    _, problems = read(tmp_path, "b: 1\na: " + "9" * 5000)
    assert problems == [
        f":2: a: {'9' * 40} can't be read as a number; shorten or quote it",
    ]


def test_not_a_file(tmp_path: Path) -> None:
    """Folders, missing files and named pipes are refused without waiting for them."""
    folder, missing, pipe = tmp_path / "d.yaml", tmp_path / "m.yaml", tmp_path / "p.yaml"
    folder.mkdir()
    os.mkfifo(pipe)
    texts = [read_tree(path).problems[0].text for path in (folder, missing, pipe)]
    assert texts == [
        "is a folder, not a file; rename it or name the files in it",
        "can't be read (no such file or directory); check path and permissions",
        "is not a regular file; give a YAML file",
    ]
