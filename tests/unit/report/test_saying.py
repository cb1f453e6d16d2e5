"""There is one way out for text, and nothing prints around it."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.text import Text

import tunematrix
from tunematrix.report import saying

SOURCE = Path(tunematrix.__file__).parent
THE_WAY = "report/saying.py"
OTHERS = {
    # What runs in another process, or in a Python without tunematrix; its output is evidence.
    "command/guard.py": "tells its parent how a command ended, in JSON",
    "environments/prove_offline.py": "runs where tunematrix isn't installed yet",
    "hub/transfer.py": "runs in a process of its own, whose errors are its log",
    "faults": "run in cells",
    "probe": "runs in somebody's training",
    "stack": "runs in cells",
    # What lays out, and hands the result on.
    "pipeline/screen.py": "a bar of rich; its lines are printable, and their secrets taken out",
    "report/terminal.py": "renders into a text",
    "report/writing.py": "a page for -, as it would be written to a file",
}


def printing(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that print, by a function or to a standard stream, or hand `print` on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno  # also where it is handed on: partial(print, file=sys.stderr)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        streams = ("sys.stdout.", "sys.stderr.", "sys.__stdout__.", "sys.__stderr__.")
        writes = called.startswith(streams) and called.rpartition(".")[2].startswith("write")
        echoes = called in (
            "typer.echo",
            "typer.secho",
            "click.echo",
            "rprint",
            "os.write",
        )
        if writes or echoes or called.endswith((".print", ".print_exc", ".print_json")):
            yield node.lineno


def test_nothing_prints_around_it() -> None:
    """Whoever adds a print finds this; those that have a reason are listed with it."""
    found = {}
    for file in SOURCE.rglob("*.py"):
        name = file.relative_to(SOURCE).as_posix()
        known = (name, *(parent.as_posix() for parent in Path(name).parents))
        lines = [*printing(ast.parse(file.read_bytes()))]
        if lines and name != THE_WAY and not any(one in OTHERS for one in known):
            found[name] = lines
    # What a cell in the foreground raises is what its log is elsewhere.
    assert found.pop("run/foreground.py") and found == {}


@pytest.mark.parametrize(
    "code",
    [
        "print('x')",
        "say = partial(print, file=sys.stderr)",
        "console.print(x)",
        "sys.stderr.write('x')",
        "sys.stdout.buffer.write(b'')",
        "f(print)",
    ],
)
def test_the_search_finds_it(code: str) -> None:
    """Each way of printing, or it would find nothing."""
    assert list(printing(ast.parse(code))) == [1]


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x00\x9b \u202eabc\u2066 \udcff \r\x08 hunter2-hunter2"
SAFE = "\\x1b]0;owned\\x07\\x1b[2J\\x00\\x9b \\u202eabc\\u2066 \\udcff \\r\\x08 <MY_API_TOKEN>"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the environment."""
    monkeypatch.setenv("MY_API_TOKEN", "hunter2-hunter2\n")


@pytest.mark.usefixtures("secret")
def test_what_is_said_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape codes, bidirectional marks, lone surrogates and secrets don't come out as they are."""
    saying.say(HOSTILE)
    saying.complain(HOSTILE)
    assert capsys.readouterr() == (f"{SAFE}\n", f"{SAFE}\n")


@pytest.mark.usefixtures("secret")
def test_data_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has escapes of its own, and stays JSON."""
    saying.say_json({"a": HOSTILE})
    out = capsys.readouterr().out
    assert out.isascii() and "hunter2" not in out and "\x1b" not in out


@pytest.mark.usefixtures("secret")
def test_what_is_laid_out_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no markup of rich's, and has no secret."""
    saying.show(Text("[/] [bold]x[/bold] hunter2-hunter2"))
    assert capsys.readouterr().out == "[/] [bold]x[/bold] <MY_API_TOKEN>\n"


def test_any_character_can_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal or the pipe can encode."""
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        saying.encode_whatever_comes()
        saying.say("✓ é")
    assert (tmp_path / "out").read_text() == "\\u2713 \\xe9" + os.linesep
