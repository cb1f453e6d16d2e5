"""docs/troubleshooting.md has messages in the very words of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import tunematrix

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
LEAST = 4
"""Characters of a part that is looked for; shorter ones are anywhere."""


@cache
def _said() -> str:
    """All texts in the code, on a line each."""
    files = Path(tunematrix.__file__).parent.rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_bytes())))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(text for text in texts if isinstance(text, str))


def _messages() -> list[str]:
    tables = re.findall(r"^\| what it says .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    return [message for table in tables for message in re.findall(r"^\| `([^`]+)`", table, re.M)]


def unknown_parts(message: str) -> list[str]:
    """Return the parts of a message, between what differs, that the code doesn't say."""
    parts = [part for part in message.split("…") if len(part.strip()) >= LEAST]
    return [part for part in parts if part not in _said()] if parts else [message]


def test_each_row_is_read() -> None:
    """A message that isn't written as one would go unseen."""
    rows = re.findall(r"^\| (?!what it says|---)", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(_messages()) == len(rows) > 20


@pytest.mark.parametrize("message", _messages())
def test_a_message_of_the_page_is_one_of_the_code(message: str) -> None:
    """Whoever searches the page for what is on the screen finds it."""
    assert unknown_parts(message) == []


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("nothing was tested: each cell was unavailable", "nothing was tested: each cell was"),
        ("… left out; -m nightly starts …", " left out; -m nightly starts "),
        ("…", "…"),
        ("…: …", "…: …"),
    ],
)
def test_a_message_that_has_changed_is_noticed(message: str, part: str) -> None:
    """Whatever part of it has changed; one without words says nothing."""
    assert unknown_parts(message)[0].startswith(part)
