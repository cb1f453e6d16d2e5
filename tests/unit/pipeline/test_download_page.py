"""docs/pipeline.md has every message of a failure, in the very words, and configs that work."""

from __future__ import annotations

import re
from pathlib import Path

from tunematrix.configuration.download import DownloadConfig, HubAccess, WantedModel
from tunematrix.hub.events import Kind
from tunematrix.hub.failures import ADVICE
from tunematrix.pipeline.settings import read_settings

PAGE = Path(__file__).parents[3] / "docs/pipeline.md"
# The page goes on with other steps.
SECTION = PAGE.read_text(encoding="utf-8").partition("\n## `tunematrix download`")[2]
TEXT = SECTION.partition("\n## ")[0]
SHOWN = {
    "repo": "REPO",
    "revision": "REVISION",
    "output_dir": "FOLDER",
    "endpoint": "ADDRESS",
    "token": "HF_TOKEN",
    "seconds": 300,
    "file": "FILE",
    "of_file": " at FILE",
    "status": "STATUS",
    "wait": "; it asks to wait 120 s",
    "detail": "…",
    "because": "",
    "choice": "choose from the names that it lists",
}


def rows() -> list[str]:
    """The table's rows, as they have to stand in the page."""
    found = []
    for kind in Kind:
        advice = ADVICE[kind]
        texts = [text.format(**SHOWN) for text in (advice.what, advice.cause, advice.to_do)]
        found.append(f"| {' | '.join(texts)} | {advice.family.exit_code:d} |")
    return found


def test_every_failure_is_on_the_page() -> None:
    """And no other."""
    lines = TEXT.splitlines()
    begin = lines.index("| what it says | likely cause | to do | exit code |") + 2
    assert lines[begin : begin + len(rows())] == rows()
    assert not lines[begin + len(rows())].startswith("|")


def test_every_key_is_on_the_page() -> None:
    """With its description."""
    named = dict(re.findall(r"^\| `([\w.\[\]]+)` \| .*? \| (.+) \|$", TEXT, re.MULTILINE))
    described = {
        "huggingface.token": HubAccess.model_fields["token"].description,
        "timeout": DownloadConfig.model_fields["timeout"].description,
        **{f"models[].{key}": field.description for key, field in WantedModel.model_fields.items()},
    }
    assert named == described


def test_the_config_on_the_page(tmp_path: Path) -> None:
    """Whoever copies it has one that works."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "download.yaml"
    file.write_text(text)
    config = read_settings(file, DownloadConfig, ["tmp_path=/data"]).settings
    assert [model.output_dir for model in config.models] == ["/data/models/distilgpt2"]
