"""Twenty-one credentials, planted in each way by which they might get out, and looked for there.

Each value has a core of letters and digits that every way of writing it leaves alone, so that a
piece of it is found, too: cut, wrapped over lines, escaped for Python, JSON, XML or a URL, or
encoded in base64.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.plugin.test_command import commit
from tests.plugin.test_report_html import shown

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Verb

LEAKS = Path(__file__).with_name("leaks.py")

SHAPES = {
    "HF_TOKEN": "hf_{}",
    "WANDB_API_KEY": "{}0123456789abcdef",
    "db_password": "p&s<w\"o'r\\d-{}",
    "CLIENT_SECRET": "{} and\tsome  blanks",
    "SMTP_PASS": "pässwört-{}",
    "DB_PWD": "50%+{}/=",
    "KEY_PASSPHRASE": "correct horse {} staple",
    "AWS_CREDENTIALS": '{{"id": "me", "word": "{}AAAAAAAA"}}',
    "NPM_AUTH": "dXNlcjp{}==",
    "SESSION_COOKIE": "sid={}; Path=/",
    "SLACK_WEBHOOK_URL": "https://hooks.example.org/services/{}",
    "GITHUB_PAT": "ghp_{}\n",
    "AZURE_SAS": "sv=2022&sig={}%2Bx%3D",
    "MYSQL_PASSWD": "[red]{}[/]",
    "PRIVATE_KEY": "-----BEGIN KEY-----\nMIIE{}\nAAAA{}\n-----END KEY-----",
    "SENTRY_DSN": "https://{}@sentry.example.org/1",
    "STORAGE_CONNECTION_STRING": "Protocol=https;AccountKey={}AAAAAA==",
    "AUTH_HEADER": "Bearer {}BBBB",
    "HTTPS_PROXY": "http://me:{}@127.0.0.1:9",
    "PIP_INDEX_URL": "https://{}TOKEN@127.0.0.1:9/simple",
    "DATA_URL": "https://data.example.org/a?x=1&token={}",
}
CORES = {
    name: f"Zq{number:02}kXvw{number * 7919 % 9973:04}Jh" for number, name in enumerate(SHAPES)
}
VALUES = {name: shape.format(*[CORES[name]] * 2) for name, shape in SHAPES.items()}
LOCATION = f"https://me:{CORES['DATA_URL']}@data.example.org/x.yaml"
"""With a password that no variable has."""
TEXT = " | ".join(f"{name} is {value}" for name, value in VALUES.items())
ENVIRONMENT = {**VALUES, "LEAKED": " ".join(VALUES)}


def encoded(core: str) -> list[str]:
    """Return what base64 makes of a core, whatever stands around it."""
    forms = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + core.encode()).decode()
        forms.append(text[(0, 2, 3)[before] : -4])
    return forms


def found_in(content: str) -> set[str]:
    """Return the names of the credentials that a text gives away, however it is broken up."""
    bare = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"\x1b\[[0-9;]*m", "", content))
    return {
        name
        for name, core in CORES.items()
        if core in bare or any(form in content for form in encoded(core))
    }


def named_in(content: str) -> set[str]:
    """Return the names that stand in the place of a value."""
    bare = re.sub(r"\s|[│┃]", "", content).replace("&lt;", "<").replace("&#60;", "<")
    bare = bare.replace("\\u003c", "<")
    return {name for name in CORES if f"<{name}" in bare}


SPEC = {
    "printed": "",
    "raised": "",
    "dying": "",
    "left": "",
    "hung": "timeout: 2\n",
}


def made(project: Project) -> Project:
    """Plant them in a project's specs, options and settings."""
    shutil.copy(LEAKS, project.root)
    for name in (*SPEC, "measured"):
        target = f"{{_target_: leaks.{name}, _partial_: true}}"
        project.option("recipe", name, f"implementation: {target}\n")
    for name, more in SPEC.items():
        project.spec(name, name, more)
    text = json.dumps(TEXT)
    link = "https://example.org/1"
    known = f"{{when: {{quantizer: plain}}, raises: KeyError, reason: {text}, link: '{link}'}}"
    project.spec("known", "raised", f"known_failures: [{known}]\n")
    prepare = f"prepare: {{call: 'leaks:get_ready', note: {text}}}\n"
    project.option("quantizer", "unprepared", prepare)
    project.spec("unprepared", "measured", quantizers="[unprepared]")
    project.option("quantizer", "lacking", f"requires: [no_such_library]\ninstall: {text}\n")
    project.spec("lacking", "measured", quantizers="[lacking]")
    refused = f"capabilities: {{recipe: {{measured: {{reason: {text}, link: '{link}'}}}}}}\n"
    project.option("quantizer", "refused", refused)
    project.spec("refused", "measured", quantizers="[plain, refused]")
    project.option("model", "theirs", "path: '/models/${oc.env:HF_TOKEN}'\n")
    project.write(
        "specs/configured.yaml",
        "test_id: configured\nrecipe: measured\nmatrix: {quantizer: [plain]}\n"
        f"overrides: {{model.path: {text}}}\n",
    )
    return project


TRAINER = """
[tool.tunematrix.trainers.toy]
command = [
    "{python}", "-m", "leaks", "--config", "{config}", "--output-dir", "{output_dir}",
    "{dynamic_args}",
]
"""
OWN = ("-e", "plain")
VERBS = (
    ("report", *OWN, "--all"),
    ("report", *OWN, "--json"),
    ("report", *OWN, "--markdown", "-"),
    ("report", *OWN, "--html", "page.html"),
    ("history",),
    ("history", "known", *OWN),
    ("history", "--export", "exported.jsonl"),
    ("plan", *OWN),
    ("plan", *OWN, "--json"),
    ("plan", *OWN, "--axis", f"quantizer={TEXT}"),
    ("baseline", "diff", *OWN),
    ("upgrade", VALUES["PIP_INDEX_URL"], *OWN),
    ("bisect", "raised[plain-plain]", "--good", "a=1", "--bad", "a=2", *OWN),
    ("check",),
    ("doctor", *OWN),
    ("doctor", *OWN, "--json"),
    ("worker", TEXT),
    ("wheels", TEXT),
    ("sft", f"model={TEXT}"),
    ("generate", f"model={TEXT}"),
    ("serve", f"x={TEXT}"),
    ("prove", TEXT),
    ("schema", TEXT),
    ("schema", f"--{TEXT}"),
    (f"--{TEXT}",),
    (TEXT,),
    ("plan", *OWN, LOCATION),
)
"""Verbs that show what was recorded, or are given all of them themselves."""
FILES = (
    "results.jsonl",
    "report.html",
    "junit.xml",
    "cell.json",
    "events.jsonl",
    "stdout.log",
    "stderr.log",
)
"""Kinds of files that a run leaves, each of which is one or more of the channels."""


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, str]:
    """Run all of it, with a trainer's command that fails; return what the run said."""
    project = made(new_project())
    settings = project.root / "pyproject.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + TRAINER, encoding="utf-8")
    project.write("toy.yaml", "steps: 8\n")
    project.write(
        "specs/trainer.yaml",
        "test_id: trainer\ntrainer: toy\nproject_dir: .\nconfig: toy.yaml\ntimeout: 60\n"
        f"dynamic_args: {{note: {json.dumps(TEXT)}}}\nloss: {{final_max: 8.0, no_nan: true}}\n"
        'stderr: {forbidden_patterns: ["PRIVATE_KEY is .*"]}\nexpected_files: [nothing.json]\n',
    )
    commit(project)
    return project, project.pytest("-v", "-rA", **ENVIRONMENT).text


def test_what_a_run_says(ran: tuple[Project, str]) -> None:
    """Each has the name of its variable in its place, and no piece of any is left."""
    assert found_in(ran[1]) == set()
    assert named_in(ran[1]) == set(CORES) - {"PIP_INDEX_URL"} or named_in(ran[1]) == set(CORES)


@pytest.mark.parametrize("kind", FILES)
def test_what_a_run_leaves(ran: tuple[Project, str], kind: str) -> None:
    """Logs, events, records, JUnit and the page: the same, in every file of the kind."""
    files = sorted((ran[0].root / ".tunematrix").rglob(kind))
    assert files
    texts = [_content(file) for file in files]
    assert {name for text in texts for name in found_in(text)} == set()
    assert any(named_in(text) for text in texts)


def test_nothing_else_that_a_run_leaves(ran: tuple[Project, str]) -> None:
    """Nor in any other file, nor in a name of one but for what a command itself has called so."""
    kept = (ran[0].root / ".tunematrix").rglob("*")
    own = [file for file in kept if file.is_file() and "output" not in file.parts]
    assert {name for file in own for name in found_in(_content(file))} == set()
    assert {name for file in own for name in found_in(file.name)} == set()


@pytest.mark.parametrize("arguments", VERBS, ids=lambda one: " ".join(one)[:32])
def test_what_a_verb_says(
    ran: tuple[Project, str],
    verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    """Of what was recorded, and of what it is given, whether or not it takes it."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    _, text = verb(ran[0], *arguments)
    assert found_in(text) == set()
    written = [ran[0].root / name for name in ("page.html", "exported.jsonl")]
    assert {name for one in written if one.exists() for name in found_in(_content(one))} == set()


def test_a_url_in_the_place_of_a_spec(ran: tuple[Project, str]) -> None:
    """What refuses it repeats it, as a path."""
    run = ran[0].tunematrix("run", *OWN, LOCATION)
    assert run.code == 4
    assert "https:/me:…@data.example.org/x.yaml: can't be read" in run.text
    assert found_in(run.text) == set()


def test_an_option_that_pytest_does_not_know(ran: tuple[Project, str]) -> None:
    """It is refused before there is a run, and repeated."""
    option = f"--no-such-option={VALUES['WANDB_API_KEY']}"
    command = [sys.executable, "-m", "tunematrix", "run", *OWN, option]
    run = ran[0].run(command, **ENVIRONMENT)
    assert run.code == 4
    assert "unrecognized arguments: --no-such-option=<WANDB_API_KEY>" in run.text
    assert found_in(run.text) == set()


def test_a_run_in_the_foreground(ran: tuple[Project, str]) -> None:
    """Where pytest itself shows what a cell prints, raises and warns of."""
    own = ("--isolation=foreground", "specs/printed.yaml", "specs/raised.yaml")
    text = ran[0].pytest("-v", "-rA", *own, **ENVIRONMENT).text
    assert "UserWarning: HF_TOKEN is <HF_TOKEN>" in text
    assert found_in(text) == set()


def test_a_cell_is_run_with_the_value_that_it_is_given(
    ran: tuple[Project, str],
) -> None:
    """A credential too; only its owner can read the spec that it is written into."""
    value = VALUES["WANDB_API_KEY"]
    project = ran[0]
    words = ["run", "-e", "plain", "recipe=measured", "quantizer=plain", f"model.path={value}"]
    run = project.run([sys.executable, "-m", "tunematrix", *words], **ENVIRONMENT)
    assert run.code == 0, run.text
    assert found_in(run.text) == set()
    (spec,) = (project.root / ".tunematrix/adhoc").glob("*.yaml")
    data = yaml.safe_load(spec.read_text(encoding="utf-8"))
    assert data["overrides"] == {"model.path": value}
    assert found_in(data["description"]) == set()
    assert spec.stat().st_mode & 0o077 == 0
    spec.unlink()


def test_the_looking_itself() -> None:
    """A value is found raw, in base64, wrapped and escaped; its name is found in its place."""
    core = CORES["DB_PWD"]
    for text in (
        f"x{core}y",
        base64.b64encode(f"ab{core}c".encode()).decode(),
        f"{core[:5]}\n  {core[5:]}",
        json.dumps(VALUES["DB_PWD"]),
    ):
        assert found_in(text) == {"DB_PWD"}
    assert named_in("is <DB_PWD>") == {"DB_PWD"}


def _content(file: Path) -> str:
    if file.suffix == ".html":
        return json.dumps(shown(file))
    return file.read_bytes().decode("utf-8", "replace")
