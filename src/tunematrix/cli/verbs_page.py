"""The command line → docs/verbs.md, a section for each verb, and README.md's table of exit codes.

`python -m tunematrix.cli.verbs_page docs/verbs.md README.md` writes them; so does `nox -s docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tunematrix.cli import app
from tunematrix.errors import ExitCode
from tunematrix.report.verified import placed

EXIT_CODES = "exit codes"
"""Names the table's place in a page."""
_HEAD = """\
# Verbs

Every verb of the command line, as `tunematrix VERB --help` shows it. This page is made from the
code; `nox -s docs` writes it. What a verb's exit code means is in the
[README](../README.md#outcomes-and-exit-codes).
"""
_EXAMPLE = re.compile(r"^Example: (.+)$", re.MULTILINE)
_MARKUP = re.compile(r"[*|<\\]|\b_|_\b")


def page() -> str:
    """Return the whole page as Markdown."""
    # A group of commands, whose class differs between releases of typer.
    group: Any = typer.main.get_command(app)
    return "\n".join([_HEAD, *(_section(name, verb) for name, verb in _verbs(group))])


def _verbs(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each verb with its name, those of a group such as `baseline` with that before it."""
    for name in group.list_commands(typer.Context(group)):
        verb = group.commands[name]
        if hasattr(verb, "commands"):
            yield from _verbs(verb, f"{above}{name} ")
        else:
            yield f"{above}{name}", verb


def exit_codes() -> str:
    """Return a table of what each exit code means."""
    rows = (f"| {code.value} | {code.meaning} |" for code in ExitCode)
    return "\n".join(["| exit code | means |", "|---|---|", *rows])


def _section(name: str, verb: Any) -> str:
    context = typer.Context(verb, info_name=name)
    text = verb.help or ""
    told = (_plain(part) for part in _EXAMPLE.sub("", text).split("\n\n"))
    usage = " ".join(["tunematrix", name, *verb.collect_usage_pieces(context)])
    rows = list(_rows(verb, context))
    table = ["| argument or option | meaning |", "|---|---|", *rows] if rows else []
    examples = (f"$ {example}" for example in _EXAMPLE.findall(text))
    parts = [
        f"## {name}",
        *filter(None, told),
        f"```text\n{usage}\n```",
        "\n".join(table),
        "\n".join(["```console", *examples, "```"]),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(verb: Any, context: typer.Context) -> Iterator[str]:
    for parameter in verb.params:
        names, meaning = parameter.get_help_record(context)
        # Of an argument, typer adds the type in Python's words, such as <list[Path]>.
        yield f"| `{re.sub(r' <.+>$', '', names)}` | {_plain(meaning)} |"


def _plain(text: str) -> str:
    """Return a text on one line, in which nothing is taken for Markdown."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


if __name__ == "__main__":
    verbs, readme = map(Path, sys.argv[1:])
    verbs.write_text(page(), encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    readme.write_text(placed(exit_codes(), text, EXIT_CODES), encoding="utf-8")
