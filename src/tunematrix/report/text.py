"""Text that came from elsewhere → text that is safe to show: in a terminal, in Markdown."""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that move the cursor, turn the text round or can't be encoded."""
_MARKDOWN = re.compile(r"[\\`*|\[\]<>&]")
_LONGEST = 4000
LONGEST_NAME = 28
"""Characters of an option's name that a table has room for."""


def printable(text: str) -> str:
    """Return a text whose control characters are written out (`\\x1b`), but for line ends.

    A text of many thousand characters is cut.
    """
    return written_out(shortened(text, _LONGEST))


def shortened(text: str, longest: int = 20_000) -> str:
    """Return a text, cut where it is longer, and then with a note of how much was left out."""
    left = len(text) - longest
    return text if left <= 0 else f"{text[:longest]} … and {left} characters more"


def written_out(text: str) -> str:
    """Return all of a text, with control characters written out as `printable` does."""
    if text.isprintable():
        return text
    return "".join(character if _is_seen(character) else _escaped(character) for character in text)


def one_line(text: str) -> str:
    """Return a text as one printable line."""
    return printable(" ".join(text.split()))


def brief(text: str) -> str:
    """Return a name as one printable line, cut where a table has no room for more."""
    line = one_line(text)
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def indented(text: str, by: str) -> str:
    """Return a printable text whose lines after the first begin with `by`.

    Or a line of a foreign message could be taken for one of ours.
    """
    return printable(text).replace("\n", f"\n{by}")


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, inside a cell of a table as well."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def _is_seen(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) not in _UNSEEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
