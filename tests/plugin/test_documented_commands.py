"""Every command in README.md, docs/ and examples/ is run here, or is said to be run elsewhere."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.plugin.pages import PAGES, ROOT, Command, blocks, commands, differs
from tests.plugin.readings import READINGS

from tunematrix.cli import app, main
from tunematrix.environments.table import read_environments

Capture = pytest.CaptureFixture[str]
FOREIGN = ("FORCE_COLOR", "NOX_", "PYTEST_ADDOPTS", "PYTEST_XDIST", "TUNEMATRIX_")
"""Beginnings of variables that a session around these tests may have set."""


@dataclass(frozen=True)
class Elsewhere:
    """Commands that aren't run here.

    Attributes:
        pattern: of the whole command.
        why: they aren't.
        where: the file that runs them or what they stand for, or the session that does.
    """

    pattern: str
    why: str
    where: str


ELSEWHERE = (
    Elsewhere(r"(\S*/)?python -m pip (install|wheel) .*", "downloads", ".ci/run"),
    Elsewhere(r"nox -s (cpu|mlx)( -- .*)?", "builds an environment, and trains", ".ci/run"),
    Elsewhere(r".*\bnox -s cuda", "needs a GPU", "tests/plugin/test_sessions.py"),
    Elsewhere(r"nox( -s (tests|docs).*)?", "is what CI runs", ".ci/run"),
    Elsewhere(r"nox -s locks?", "resolves all versions", "tests/unit/environments/test_locks.py"),
    Elsewhere(
        r"tunematrix prove .*",
        "trains over versions of the reader's own",
        "tests/plugin/test_prove.py",
    ),
    Elsewhere(
        r"tunematrix upgrade( .*)?", "trains with other releases", "tests/plugin/test_upgrade.py"
    ),
    Elsewhere(
        r"tunematrix bisect .*", "trains over many sets of versions", "tests/plugin/test_bisect.py"
    ),
    Elsewhere(
        r"(python3 wheels/prove\.py|tunematrix wheels) .*|python3 -m pip list .*",
        "is for a machine of the reader's own",
        "tests/unit/environments/test_wheels.py",
    ),
    Elsewhere(
        r"tunematrix (certificates|scheduler|worker|(run|report) -e \w+,).*"
        r"|nox -s cuda -- --worker .*",
        "needs a fleet",
        "tests/plugin/test_fleet.py",
    ),
    Elsewhere(r"nox -s pictures", "needs a browser", "tests/browser/test_pictures.py"),
    Elsewhere(r"nox -s bench", "measures for minutes", "tests/bench/bench.py"),
    Elsewhere(r"(nox -s|tunematrix) faults.*", "tries 190 faults", "tests/unit/proof/faults"),
    Elsewhere(
        r"(nox -s|tunematrix) regressions.*",
        "installs old releases",
        "tests/plugin/test_regressions.py",
    ),
    Elsewhere(
        r"nox -s release-sets.*",
        "installs the releases of two years",
        "tests/unit/proof/releases/test_release_sets.py",
    ),
    Elsewhere(r"(nox -s|tunematrix) soak.*", "trains for hours", "tests/plugin/test_soak.py"),
    Elsewhere(
        r"nox -s (trl|points|litgpt|llama-factory|mlx-lm|script)|cd examples/trl",
        "builds an environment for an example",
        "tests/stack/test_examples.py",
    ),
    Elsewhere(
        r"tunematrix doctor.*", "tries each library for ten seconds", "tests/plugin/test_doctor.py"
    ),
    Elsewhere(
        r"tunematrix run (-m smoke|--debug .*|.*method=(lora|dora).*|recipe=\S+ .*--fault .*)",
        "trains",
        ".ci/run",
    ),
    Elsewhere(
        r"tunematrix run --debug-mode", "starts torchrun", "tests/plugin/test_command_debug.py"
    ),
    Elsewhere(
        r"tunematrix watch .*|tunematrix report -e watch",
        "trains by a script of the reader's own",
        "tests/stack/test_watching.py",
    ),
    Elsewhere(
        r"python train\.py .*", "is a trainer of the reader's own", "tests/plugin/toy_trainer.py"
    ),
    Elsewhere(
        r"tunematrix check .* --forward", "imports torch", "tests/unit/inspection/test_examine.py"
    ),
    Elsewhere(r"tunematrix download .*", "asks a Hub", "tests/unit/pipeline/test_download.py"),
    Elsewhere(
        r"tunematrix (sft|dpo|finalize|generate|serve) .*",
        "trains or asks a model of one's own",
        "tests/stack/test_examples.py",
    ),
    Elsewhere(
        r"tunematrix tolerances .*", "needs runs under 20 seeds", "tests/plugin/test_relations.py"
    ),
    Elsewhere(
        r"tunematrix baseline .*|git add configs/baselines",
        "needs runs under 20 seeds",
        "tests/plugin/test_baseline_verb.py",
    ),
    Elsewhere(
        r"python -m tunematrix\.stack\.adapters .*",
        "needs an adapter",
        "tests/stack/test_adapters.py",
    ),
    Elsewhere(r"python llama\.cpp/.*", "is a script of another project", "docs/pipeline.md"),
    Elsewhere(r"uv pip freeze .*", "needs an environment", "tests/plugin/test_init_whole.py"),
    Elsewhere(
        r"\. \.nox/cpu/bin/activate|cd .*|ls|grep .*",
        "is of a run that was made before",
        "tests/plugin/test_command_line.py",
    ),
)
"""The one list of commands that aren't run here; the first that fits holds."""


def elsewhere(command: Command) -> Elsewhere | None:
    """Return why a command isn't run here; None where it is. What is refused costs nothing."""
    if command.is_refused:
        return None
    return next((one for one in ELSEWHERE if re.fullmatch(one.pattern, command.words)), None)


ALL = [command for page in PAGES for command in commands(page)]
HERE = [command for command in ALL if elsewhere(command) is None]
PROCESSES = re.compile(r"tunematrix run\b|.*[|>*]")
"""What needs processes of its own, or a shell; any other verb is called in this one."""

Call = Callable[[str], tuple[int, str]]
"""Takes a command; returns its exit code and what it printed."""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Call:
    """Calls a command in a folder, as somebody who reads a page does in a terminal."""
    for name in (name for name in os.environ if name.startswith(FOREIGN)):
        monkeypatch.delenv(name)
    settings = {"COLUMNS": "80", "NO_COLOR": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = {"PYTEST_PLUGINS": "tunematrix.plugin.hooks"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name, value in {**settings, **plugins, "PATH": path}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call_it(command: str) -> tuple[int, str]:
        if PROCESSES.match(command):
            done = subprocess.run(
                ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False
            )
            return done.returncode, done.stdout + done.stderr
        monkeypatch.setattr("sys.argv", ["tunematrix", *shlex.split(command)[1:]])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, "".join(capsys.readouterr())

    return call_it


@pytest.mark.each_time(4)
@pytest.mark.parametrize("page", READINGS)
def test_the_commands_of_a_page(page: str, call: Call, tmp_path: Path) -> None:
    """Each does what the page says, and prints what it shows."""
    reading = READINGS[page]
    reading.project(tmp_path)
    before = {command: iter(changes) for command, changes in reading.before.items()}
    for command in (command for command in HERE if command.page == page):
        for change in itertools.islice(before.get(command.words, iter(())), 1):
            change(tmp_path)
        code, output = call(command.words)
        wanted = reading.codes.get(command.words, 4 if command.is_refused else 0)
        assert code == wanted, f"{page}:{command.line}: {command.words}\n{output}"
        if command.shown and command.words not in reading.other_output:
            figures = command.words not in reading.other_figures
            told = differs(command.shown, output, figures=figures)
            assert not told, pytest.fail(f"{page}:{command.line}: {command.words}\n{told}")
    assert [command for command, left in before.items() if list(left)] == []


def test_each_command_is_run_somewhere() -> None:
    """Here, by a reading of its page; or elsewhere, by a file or a session that there is."""
    assert {command.page for command in HERE} == set(READINGS)
    fitting = {one.pattern for command in ALL if (one := elsewhere(command))}
    assert fitting == {one.pattern for one in ELSEWHERE}, "a line of the list fits no command"
    assert [one.where for one in ELSEWHERE if not (ROOT / one.where).exists()] == []
    named = {name for reading in READINGS.values() for name in (*reading.codes, *reading.before)}
    assert named <= {command.words for command in HERE}


def test_every_block_says_what_it_is() -> None:
    """A command in a block of no language, or of a shell's, would be run by nobody."""
    known = {"console", "json", "python", "text", "toml", "yaml"}
    others = [
        (block.page, block.line)
        for p in PAGES
        for block in blocks(p)
        if block.language not in known
    ]
    assert others == []


def _sessions() -> set[str]:
    """The sessions of Nox that there are: in noxfile.py, environments, and those of examples."""
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    tables = [ROOT, *(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))]
    environments = {name for root in tables for name in read_environments(root, [])}
    own = {*re.findall(r"^def (\w+)\(session", text, re.MULTILINE)}
    own |= {*re.findall(r"^@nox\.session\(name=\"([\w-]+)\"", text, re.MULTILINE)}
    return (
        environments | own | set(re.findall(r"^define_measure\(\s*\"(\w+)\"", text, re.MULTILINE))
    )


def unknown(text: str, sessions: Container[str]) -> list[str]:
    """Return the sessions and the verbs in a text that aren't there."""
    verbs = {
        str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands
    }
    verbs |= {str(one.name) for one in app.registered_groups}
    named = re.findall(r"\bnox -s ([\w-]+)", text)
    called = re.findall(r"`tunematrix ([a-z]+)", text)
    return [name for name in named if name not in sessions] + [v for v in called if v not in verbs]


def test_sessions_and_verbs_that_pages_name_are_there() -> None:
    """Also those in the middle of a sentence, and in tables."""
    sessions = {*_sessions(), "NAME", "old", "mine", "deterministic"}  # of the reader's own
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert unknown(text, sessions) == []
    assert unknown("`nox -s cpuu`, `tunematrix plans FILE`", sessions) == ["cpuu", "plans"]


def test_figures_that_count_for_nothing() -> None:
    """Numbers, versions, dates and widths may be others; words and symbols may not."""
    shown = (
        "✓  sft  hqq-int4   ✓37 ·1  52%  8.8 s",
        "  …",
        "run 20261125-211539-a3d4 on 2.13.0+cpu",
    )
    honest = "✓ sft hqq-int4 ✓4 ·12 9% 13 s\nmore\nrun 20270101-000000-ffff on 3.0+cpu\n"
    assert differs(shown, honest, figures=False) == ""
    assert differs(shown, honest) != ""
    for old, new in (("sft", "dpo"), ("int4", "int8"), ("✓4", "✗4"), ("+cpu", ""), ("run", "")):
        assert differs(shown, honest.replace(old, new), figures=False) != ""


SHOWN = ("cells: 2", "  …", "run … ended", "done")


@pytest.mark.parametrize(
    "output",
    [
        "cells: 2\nrun 7 ended\ndone\n",
        "cells: 2\n\n1\n2\nrun 7 ended\ndone",
        "\ncells: 2  \nrun  ended\ndone\n\n",
        "cells: 2\nrun 7 ended\nrun 8 ended\ndone\n",
    ],
)
def test_an_output_as_shown(output: str) -> None:
    """Gaps stand for any lines, or any part of a line."""
    assert differs(SHOWN, output) == ""


@pytest.mark.parametrize(
    "output",
    [
        "",
        "cells: 3\nrun 7 ended\ndone\n",
        "cells: 2\nran 7 ended\ndone\n",
        "cells: 2\nrun 7 ended\n",
        "cells: 2\nrun 7 ended\ndone\nand more\n",
        "first\ncells: 2\nrun 7 ended\ndone\n",
        "cells: 22\nrun 7 ended\ndone\n",
        "cells: 2\nrun 7\nended\ndone\n",
    ],
)
def test_an_output_that_is_not_as_shown(output: str) -> None:
    """Said with both, so that the page can be corrected."""
    assert "the page shows\ncells: 2\n" in differs(SHOWN, output)
