"""Pages of documentation → the commands that they show, each with the output that is shown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    "examples/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*/README.md")),
)
"""All pages, relative to the checkout."""
GAP = "…"
"""Stands for lines that are left out, or within a line for a part of it."""
_FIGURE = r"\b\d[\w.,:-]*"
"""A number, a date, a version or the id of a run."""
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the page; line: where its fence begins, from 1.
        language: what the fence names; text: what is in it, not indented.
        adjoins: whether nothing but an empty line is between the block before and this one.
    """

    page: str
    line: int
    language: str
    text: str
    adjoins: bool


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        page: the page; line: of the block that it is in.
        text: the command, lines that it goes on in with it.
        shown: the lines of its output, none where none are shown.
    """

    page: str
    line: int
    text: str
    shown: tuple[str, ...]

    @property
    def words(self) -> str:
        """The command without a comment at its end."""
        return re.sub(r"\s+# .*", "", self.text)

    @property
    def is_refused(self) -> bool:
        """Whether the page shows that it ends with an error."""
        return bool(self.shown) and self.shown[0].startswith("error: ")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        adjoins = bool(found) and not text[end : match.start()].strip()
        found.append(Block(page, line, match[2], textwrap.dedent(match[3]), adjoins))
        end = match.end()
    return found


def block(page: str, begins: str) -> str:
    """Return the text of a page's only block that begins so."""
    (found,) = (block.text for block in blocks(page) if block.text.startswith(begins))
    return found


def commands(page: str) -> list[Command]:
    """Return the commands of a page; a block of text right below the last one is its output."""
    found: list[Command] = []
    last = False
    for block in blocks(page):
        if block.language == "console":
            found += _commands(block)
        elif block.language == "text" and block.adjoins and last:
            above = found[-1]
            shown = (*above.shown, *block.text.splitlines())
            found[-1] = Command(page, above.line, above.text, shown)
        last = block.language == "console"
    return found


def _commands(block: Block) -> Iterator[Command]:
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    for part in parts[1:]:
        text, *shown = re.sub(r"\s*\\\n\s*", " ", part).splitlines()
        yield Command(block.page, block.line, text, tuple(shown))


def differs(shown: Sequence[str], output: str, *, figures: bool = True) -> str:
    """Return how an output differs from what a page shows; "" where it doesn't.

    Args:
        shown: lines; `GAP` alone stands for any lines, within a line for any part of it.
        output: what the command printed.
        figures: whether numbers, and the widths of columns, count.
    """
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    wanted = [line.rstrip() for line in "\n".join(shown).strip("\n").splitlines()]
    part = re.escape if figures else _without_figures
    patterns = (
        r"(?:.*\n)*?" if line.strip() == GAP else ".*".join(map(part, line.split(GAP))) + r"\n"
        for line in wanted
    )
    if re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in lines)):
        return ""
    return "\n".join(["the page shows", *wanted, "the command printed", *lines])


def _without_figures(text: str) -> str:
    """Return a pattern of a text in which any number and any space will do."""
    parts = re.split(rf"({_FIGURE}|\s+)", text)
    return "".join(
        r"\s+" if part.isspace() else _FIGURE if re.fullmatch(_FIGURE, part) else re.escape(part)
        for part in parts
    )
