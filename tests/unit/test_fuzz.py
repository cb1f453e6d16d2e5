"""Mutated input of every kind: a located message, or a test that is one; never a traceback.

A few of each kind are tried for every change, a thousand nightly (`TUNEMATRIX_FUZZ` names another
number).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import yaml
from typer.testing import CliRunner

from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.cli.app import app
from tunematrix.command.trainers import read_trainers
from tunematrix.environments.table import read_environments
from tunematrix.errors import TunematrixError
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan
from tunematrix.paths import pytest_settings, shipped_configs
from tunematrix.results.store import Store
from tunematrix.spec.loader import load_specs

FEW, MANY = 40, int(os.environ.get("TUNEMATRIX_FUZZ", "1000"))


@pytest.fixture(params=[FEW, pytest.param(MANY, marks=pytest.mark.nightly)])
def tries(request: pytest.FixtureRequest) -> int:
    """How many of a kind are tried."""
    return int(request.param)


def draws(kind: str, tries: int) -> Iterator[Random]:
    """Yield as many sources of chance as there are to be tries; the same in every run."""
    return (Random(f"{kind} {number}") for number in range(tries))


SPEC = """\
test_id: lora
recipe: sft
matrix: {method: [lora, dora], quantizer: [none, hqq-int4]}
overrides: {data: text, train.max_steps: 20, train.learning_rate: 1.0e-3, launcher.processes: 1}
loss: {final_max: 3.0, final_min: 0.1, no_nan: true}
gap_closed: {min: 0.5, max: 1.0}
memory: {stored_mb: {min: 1, max: 20}}
parity: {logits: 1.0e-3}
markers: [integration, smoke]
timeout: 180
known_failures:
  - {when: {method: dora}, raises: ValueError, reason: r, link: "https://example.org/1"}
"""
WORDS = (
    "0", "-1", "1e308", "-1e308", ".nan", ".inf", "1:30", "0x10", "0b1", "1_0", "on", "~", "''",
    "[]", "{}", "[[]]", "{a: b}", "*a", "&a 1", "!!python/object:os.system x", "\x00", "\x1b[2J",
    "\ud800", "\u202e", "9" * 5000, "lora", "all", "xfail", "skip", "Exception", "exit",
    "/dev/zero", "${oc.env:HOME}", "???", "../../x", "a" * 3000, "é", "%s", "{0}", "[/]",
    "true", "None", "|",
)  # fmt: skip


def mutated(chance: Random, text: str) -> str:
    """Replace, repeat, cut or insert something, up to four times."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(max(1, len(text)))
        end = min(len(text), start + chance.randint(0, 12))
        noise = "".join(chr(chance.randrange(1, 0x3000)) for _ in range(chance.randint(0, 5)))
        word = chance.choice((*WORDS, noise))
        what = chance.choice(("value", "replace", "cut", "repeat", "insert"))
        if what == "value" and (colon := text.find(": ", start)) >= 0:
            stop = min((i for c in ",}\n" if (i := text.find(c, colon)) >= 0), default=len(text))
            text = f"{text[: colon + 2]}{word}{text[stop:]}"
        elif what == "cut":
            text = text[:start] + text[end:]
        elif what == "repeat":
            text = text[:end] + text[start:]
        else:
            text = text[:start] + word + text[start if what == "insert" else end :]
    return text


def refused(read: Callable[[], object]) -> str:
    """Return what is said of input; empty where it is accepted. Anything else is a traceback."""
    try:
        read()
    except TunematrixError as error:
        return str(error) if error.exit_code in (4, 5, 6) else f"code {error.exit_code}"
    return ""


def put(file: Path, text: str) -> Path:
    """Write a file, whatever is in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return file


@pytest.fixture(scope="module")
def groups() -> Groups:
    """The shipped options."""
    return read_groups((shipped_configs(),))


def test_specs(tmp_path: Path, tries: int, groups: Groups) -> None:
    """Refused with its file, or planned to something that has to be met."""
    environments = read_environments(tmp_path, [])
    for chance in draws("spec", tries):
        file = put(tmp_path / "spec.yaml", text := mutated(chance, SPEC))

        def read(file: Path = file) -> None:
            specs = load_specs([file])
            refuse_unknown_checks(groups, specs)
            for cell in plan(specs, groups, environments["cpu"]).cells:
                steps = {"train.max_steps": 20, **cell.overrides}["train.max_steps"]
                assert isinstance(steps, int) and steps > 0
                assert 0 < cell.spec.timeout <= 30 * 24 * 3600
                assert not {"skip", "xfail", "skipif"} & {*cell.spec.markers}
                assert all(one.raises != "Exception" for one in cell.spec.known_failures)

        said = refused(read)
        assert not said or "spec.yaml" in said, text


OPTIONS = sorted(
    file
    for axis in ("recipe", "method", "quantizer", "backend", "launcher", "data", "optimizer")
    for file in (shipped_configs() / axis).glob("*.yaml")
)


def test_options(tmp_path: Path, tries: int) -> None:
    """A config group of the user's is read like a shipped one; a key that nobody knows is none."""
    for number, chance in enumerate(draws("option", tries)):
        file = chance.choice(OPTIONS)
        axis, text = file.parent.name, file.read_text(encoding="utf-8")
        conf = tmp_path / str(number)
        own = put(conf / axis / file.name, mutated(chance, text))
        said = refused(lambda conf=conf: read_groups((shipped_configs(), conf)))  # type: ignore[misc]
        if said:
            assert file.name in said
            continue
        option = read_groups((shipped_configs(), conf)).axes[axis][own.stem]
        assert {*option.data} <= {*yaml.safe_load(text), *type(option.declared).model_fields}


PYPROJECT = """\
[project]
name = "p"
version = "1"

[tool.pytest.ini_options]
tunematrix_specs = ["specs"]
tunematrix_configs = ["conf"]

[tool.tunematrix.environments.plain]
description = "Nothing but Python"
backends = ["cpu"]

[tool.tunematrix.trainers.mine]
command = ["python", "train.py", "{config}"]
"""


def test_tables(tmp_path: Path, tries: int) -> None:
    """What is said of the project's own tables names the file."""
    for chance in draws("table", tries):
        file = put(tmp_path / "pyproject.toml", text := mutated(chance, PYPROJECT))

        def read() -> None:
            pytest_settings(tmp_path)
            read_environments(tmp_path, [])
            read_trainers(tmp_path)

        said = refused(read)
        assert not said or file.name in said, text


RECORDS = next((Path(__file__).parents[2] / "docs/verified").glob("*.jsonl"))


@pytest.fixture(scope="module")
def record() -> str:
    """A short record as it was written."""
    with RECORDS.open(encoding="utf-8") as file:
        return min((line for _, line in zip(range(20), file, strict=False)), key=len)


def test_records(tmp_path: Path, tries: int, record: str) -> None:
    """A line is a record that can be shown, or it is named."""
    fields = json.loads(record)
    line = json.dumps({name: fields[name] for name in fields if name != "losses"})
    for chance in draws("record", tries):
        file = put(tmp_path / "records.jsonl", text := mutated(chance, line) + "\n")
        if said := refused(Store(file).read):
            assert "records.jsonl" in said, text
            continue
        shown = CliRunner().invoke(app, ["report", str(file), "--all"])
        error = shown.exception
        assert error is None or isinstance(error, SystemExit | TunematrixError), text
        assert "\x1b" not in shown.output


VERBS = (
    "plan", "check", "report", "schema", "history", "tolerances", "doctor --help", "baseline",
    "wheels --help", "upgrade --help", "bisect --help", "init --help", "download --help",
)  # fmt: skip
ARGUMENTS = (
    *(word for word in WORDS if "\x00" not in word and "\ud800" not in word),
    *("-e", "--axis", "--json", "--all", "-k", "--", "-", "--axis=a=b", "-o", "="),
)


def test_command_lines(tmp_path: Path, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any verb with anything behind it ends with a documented code."""
    monkeypatch.chdir(tmp_path)
    for chance in draws("command line", tries):
        some = chance.choices(ARGUMENTS, k=chance.randint(0, 4))
        arguments = [*chance.choice(VERBS).split(), *some]
        error = CliRunner().invoke(app, arguments).exception
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            continue  # which `main` tells
        assert error is None or isinstance(error, SystemExit | TunematrixError), arguments
