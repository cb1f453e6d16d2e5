"""Mutated input of every kind: a located message, or a test that is one; never a traceback.

`TUNEMATRIX_FUZZ=1000` tries that many of each kind, instead of a few.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.cli.app import app
from tunematrix.environments.table import read_environments
from tunematrix.errors import TunematrixError
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan
from tunematrix.paths import pytest_settings, shipped_configs
from tunematrix.results.store import Store
from tunematrix.spec.loader import load_specs

EACH = int(os.environ.get("TUNEMATRIX_FUZZ", "40"))
few = settings(
    max_examples=EACH,
    deadline=None,
    database=None,
    derandomize="TUNEMATRIX_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

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
    "\ud800", "\u202e", "9" * 5000, "lora", "all", "xfail", "skip", "Exception", "exit", "/dev/zero",
    "${oc.env:HOME}", "???", "../../x", "a" * 3000, "é", "%s", "{0}", "[/]", "true", "None", "|",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Replace, repeat, cut or insert something, up to four times."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        word = draw(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)))
        what = draw(st.sampled_from(("value", "replace", "cut", "repeat", "insert")))
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
        assert error.exit_code in (4, 5, 6)
        return str(error)
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


@few
@given(text=mutated(SPEC))
def test_specs(tmp_path: Path, groups: Groups, text: str) -> None:
    """Refused with its file, or planned to something that has to be met."""
    file = put(tmp_path / "spec.yaml", text)
    environments = read_environments(tmp_path, [])

    def read() -> None:
        specs = load_specs([file])
        refuse_unknown_checks(groups, specs)
        found = plan(specs, groups, environments["cpu"])
        for cell in found.cells:
            train = {"train.max_steps": 20, **cell.overrides}["train.max_steps"]
            assert isinstance(train, int) and train > 0
            assert 0 < cell.spec.timeout <= 30 * 24 * 3600
            assert not {"skip", "xfail", "skipif"} & {*cell.spec.markers}
            assert all(one.raises != "Exception" for one in cell.spec.known_failures)

    if said := refused(read):
        assert "spec.yaml" in said


OPTIONS = sorted(
    file
    for axis in ("recipe", "method", "quantizer", "backend", "launcher", "data", "optimizer")
    for file in (shipped_configs() / axis).glob("*.yaml")
)


@few
@given(data=st.data(), file=st.sampled_from(OPTIONS))
def test_options(tmp_path: Path, data: st.DataObject, file: Path) -> None:
    """A config group of the user's is read like a shipped one; a key that nobody knows is none."""
    text = data.draw(mutated(file.read_text(encoding="utf-8")))
    own = put(tmp_path / f"conf/{file.parent.name}/{file.name}", text)
    said = refused(lambda: read_groups((shipped_configs(), tmp_path / "conf")))
    if said:
        assert file.name in said
        return
    known = {*yaml.safe_load(file.read_text(encoding="utf-8"))}
    option = read_groups((shipped_configs(), tmp_path / "conf")).axes[file.parent.name]
    fields = type(option[own.stem].declared).model_fields
    assert {*option[own.stem].data} <= known | {*fields}


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


@few
@given(text=mutated(PYPROJECT))
def test_tables(tmp_path: Path, text: str) -> None:
    """The project's own table names the file in what is said of it."""
    from tunematrix.command.trainers import read_trainers

    file = put(tmp_path / "pyproject.toml", text)

    def read() -> None:
        pytest_settings(tmp_path)
        read_environments(tmp_path, [])
        read_trainers(tmp_path)

    if said := refused(read):
        assert file.name in said


RECORDS = next((Path(__file__).parents[2] / "docs/verified").glob("*.jsonl"))


@pytest.fixture(scope="module")
def record() -> str:
    """A short record as it was written."""
    with RECORDS.open(encoding="utf-8") as file:
        return min((line for _, line in zip(range(20), file, strict=False)), key=len)


@few
@given(data=st.data())
def test_records(tmp_path: Path, record: str, data: st.DataObject) -> None:
    """A line is a record that can be shown, or it is named."""
    fields = json.loads(record)
    text = json.dumps({name: fields[name] for name in fields if name != "losses"})
    file = put(tmp_path / "records.jsonl", data.draw(mutated(text)) + "\n")
    if said := refused(Store(file).read):
        assert "records.jsonl" in said
        return
    shown = CliRunner().invoke(app, ["report", str(file), "--all"])
    assert shown.exception is None or isinstance(shown.exception, SystemExit | TunematrixError)
    assert "\x1b" not in shown.output


VERBS = (
    "plan", "check", "report", "schema", "history", "tolerances", "doctor --help", "baseline",
    "wheels --help", "upgrade --help", "bisect --help", "init --help", "download --help",
)  # fmt: skip
ARGUMENTS = st.one_of(
    st.sampled_from(WORDS).filter(lambda word: "\x00" not in word),
    st.sampled_from(("-e", "--axis", "--json", "--all", "-k", "--", "-", "--axis=a=b", "-o", "=")),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=8),
)


@few
@given(verb=st.sampled_from(VERBS), arguments=st.lists(ARGUMENTS, max_size=4))
def test_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, arguments: list[str]
) -> None:
    """Any verb with anything behind it ends with a documented code."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, [*verb.split(), *arguments])
    error = ended.exception
    is_too_long = isinstance(error, OSError) and error.errno == 36  # which `main` tells
    if not is_too_long:
        assert error is None or isinstance(error, SystemExit | TunematrixError), arguments
