"""The config of a step: what is wrong is said with its line, and no token is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunematrix.configuration.download import DownloadConfig
from tunematrix.errors import BadInput
from tunematrix.pipeline.settings import read_settings

TOKEN = "hf_" + "aBcD" * 8
GOOD = """huggingface:
  token: "${HF_TOKEN}"

models:
  - repo: "distilgpt2"
    files:
      - "config.json"
      - "*.safetensors"
    output_dir: "{tmp_path}/models/distilgpt2"
"""


def _read(folder: Path, text: str, *assignments: str) -> DownloadConfig:
    file = folder / "download.yaml"
    file.write_text(text)
    return read_settings(file, DownloadConfig, assignments).settings


def test_a_config(tmp_path: Path) -> None:
    """Variables are filled in; what isn't given has a default."""
    config = _read(tmp_path, GOOD, "tmp_path=/x")
    assert config.models[0].output_dir == "/x/models/distilgpt2"
    assert config.models[0].revision == "main"
    assert config.huggingface.token_variable == "HF_TOKEN"
    assert config.timeout == 300


def test_overrides(tmp_path: Path) -> None:
    """A number can be a number or a text, as the key wants it; a list is written as in YAML."""
    config = _read(
        tmp_path,
        GOOD,
        "tmp_path=/x",
        "models.0.revision=1234",
        "timeout=20",
        "models.0.files=[a.json, b.json]",
    )
    assert (config.models[0].revision, config.timeout) == ("1234", 20)
    assert config.models[0].files == ("a.json", "b.json")


def test_a_section_that_only_the_command_line_has(tmp_path: Path) -> None:
    """It is made."""
    text = GOOD.partition("models:")[2]
    config = _read(tmp_path, f"models:{text}", "tmp_path=/x", "huggingface.token=${MINE}")
    assert config.huggingface.token_variable == "MINE"


def test_doubled_braces_are_text(tmp_path: Path) -> None:
    """As in the templates of a trainer."""
    config = _read(tmp_path, GOOD.replace("{tmp_path}", "{{tmp_path}}"))
    assert config.models[0].output_dir == "{tmp_path}/models/distilgpt2"


@pytest.mark.parametrize(
    ("old", "new", "assignments", "message"),
    [
        ("", "", (), r"download.yaml:9: models\[0\].output_dir: {tmp_path} is not set; add tmp_p"),
        ("", "", ("tmp_pth=/x",), r"tmp_pth=…: .*no variable .*did you mean tmp_path\?"),
        ("", "", ("tmp_path",), r"tmp_path: is no key=value"),
        ("", "", ("tmp_path=/x", "modles.0.repo=a"), r"modles is not .*did you mean models\?"),
        ("", "", ("tmp_path=/x", "models.1.repo=a"), r"models is a list of 1; count from 0"),
        ("", "", ("tmp_path=/x", "models.0.repo.a=a"), r"models\[0\].repo has nothing below it"),
        (
            "",
            "",
            ("tmp_path=/x", "models.0.revison=a"),
            r"command line: models\[0\].revison: .*did you mean revision\?",
        ),
        ("files:", "flies:", ("tmp_path=/x",), r"download.yaml:6: .*did you mean files\?"),
        ("distilgpt2", "a/b/c", ("tmp_path=/x",), r"download.yaml:5: models\[0\].repo: expected"),
        ("distilgpt2", "../b", ("tmp_path=/x",), r"download.yaml:5: models\[0\].repo: expected"),
        ('"distilgpt2"', "", ("tmp_path=/x",), r"download.yaml:5: models\[0\].repo: is empty"),
        ("config.json", "*.safetensors", ("tmp_path=/x",), r"download.yaml:8: .*listed twice"),
        ("models:", "models: [\n", ("tmp_path=/x",), r"download.yaml:\d+: is not YAML"),
    ],
)
def test_what_is_wrong(
    tmp_path: Path, old: str, new: str, assignments: tuple[str, ...], message: str
) -> None:
    """File, line, key, and what to do."""
    with pytest.raises(BadInput) as raised:
        _read(tmp_path, GOOD.replace(old, new, 1), *assignments)
    assert re.search(message, str(raised.value))


def test_two_models_in_one_folder(tmp_path: Path) -> None:
    """The second would overwrite the first."""
    model = GOOD.partition("models:\n")[2]
    with pytest.raises(BadInput, match=r"yaml:14: models\[1\].output_dir: is also the output_dir"):
        _read(tmp_path, GOOD + model, "tmp_path=/x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"${HF_TOKEN}"', TOKEN),
        ('"${HF_TOKEN}"', f"Bearer ${{HF_TOKEN}} {TOKEN}"),
        ('\n  token: "${HF_TOKEN}"', f" {TOKEN}"),
        ("token:", f"{TOKEN}:"),
        ("distilgpt2", f"{TOKEN}/a/b"),
    ],
)
def test_a_token_in_the_file(tmp_path: Path, old: str, new: str) -> None:
    """It is refused, and not shown."""
    with pytest.raises(BadInput) as raised:
        _read(tmp_path, GOOD.replace(old, new, 1), "tmp_path=/x")
    assert TOKEN not in str(raised.value)
    assert re.search(r"download.yaml:\d+: ", str(raised.value))


@pytest.mark.parametrize("assignment", [f"huggingface.token={TOKEN}", f"{TOKEN}=1", TOKEN])
def test_a_token_on_the_command_line(tmp_path: Path, assignment: str) -> None:
    """The same: it would stay in the shell's history."""
    with pytest.raises(BadInput) as raised:
        _read(tmp_path, GOOD, "tmp_path=/x", assignment)
    assert TOKEN not in str(raised.value)


def test_a_literal_token_is_named(tmp_path: Path) -> None:
    """With what to write in its place."""
    with pytest.raises(BadInput, match=r"yaml:2: huggingface.token: .*write \"\$\{HF_TOKEN\}\""):
        _read(tmp_path, GOOD.replace("${HF_TOKEN}", TOKEN), "tmp_path=/x")
