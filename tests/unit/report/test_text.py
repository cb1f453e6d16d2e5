from __future__ import annotations

import pytest

from tunematrix.report.text import indented, markdown, one_line, printable, written_out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer ≤ 3 ✗", "größer ≤ 3 ✗"),
        ("two\nlines", "two\nlines"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("back\rforth\b", r"back\rforth\x08"),
        ("\x9b31m", r"\x9b31m"),
        ("weights-\udcff.bin", r"weights-\udcff.bin"),
        ("\u202eturned\u2066", r"\u202eturned\u2066"),
        ("line\u2028end", r"line\u2028end"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    """A message moves no cursor, turns nothing round, and can be encoded."""
    assert printable(text) == shown
    assert shown.encode()


def test_a_text_of_five_megabytes() -> None:
    """It is cut, and says so."""
    shown = printable("x" * 5_000_000)
    assert len(shown) < 5_000
    assert shown.endswith("x … and 4996000 characters more")


def test_one_line() -> None:
    """Line ends and runs of spaces are one space."""
    assert one_line(" a\n\n=== 5 passed ===\tb\r\n") == "a === 5 passed === b"


def test_foreign_lines_are_indented() -> None:
    """None of them begins where one of ours does."""
    assert indented("first\n=== 5 passed ===", "  ") == "first\n  === 5 passed ==="


def test_markdown_shows_a_text_as_it_is() -> None:
    """Also inside a cell of a table."""
    assert markdown("x86_64, a | b") == "x86_64, a &#124; b"
    assert markdown("<b>\n[x](y)`*&\\") == "&#60;b&#62; &#91;x&#93;(y)&#96;&#42;&#38;&#92;"


def test_all_of_a_long_text_with_control_characters_written_out() -> None:
    """A message that lists hundreds of mistakes isn't cut."""
    shown = written_out("\x1b[2J" + "mistake\n" * 1000)
    assert shown.startswith(r"\x1b[2J")
    assert shown.count("mistake\n") == 1000
