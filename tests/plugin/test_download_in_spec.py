"""Specs that begin with a download, run as users run them, from a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.unit.pipeline.loopback_hub import COMMIT, SIGNATURE, TOKEN, serving

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run, Verb

STEPS = """\
test_id: {name}
recipe: pipeline
steps:
  download:
    models:
      - repo: {repo}
        revision: {revision}
        files: [config.json, model.safetensors]
        output_dir: "{folder}"
"""
SPECS = {
    "good": ("faulty/secured", "main"),
    "unknown": ("nobody/none", "main"),
    "unreleased": ("good/tiny", "v9"),
    "cut": ("faulty/corrupt", "main"),
}


@dataclass(frozen=True)
class Downloaded:
    """A session whose cells download."""

    project: Project
    run: Run


@pytest.fixture(scope="module")
def downloaded(new_project: NewProject) -> Iterator[Downloaded]:
    """One session with all specs; the hub's token is in its environment."""
    project = new_project()
    text = (project.root / "pyproject.toml").read_text()
    project.write("pyproject.toml", text.replace('["plain"]', '["cpu"]'))
    for name, (repo, revision) in SPECS.items():
        folder = project.root / "models" / name
        spec = STEPS.format(name=name, repo=repo, revision=revision, folder=folder)
        project.write(f"specs/{name}.yaml", spec)
    with serving() as hub:
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        variables["HF_HUB_OFFLINE"] = "0"  # which a session of Nox has set
        yield Downloaded(project, project.pytest("-v", **variables))


def test_what_was_fetched_is_recorded(downloaded: Downloaded) -> None:
    """Repository, commit, files and their hashes are in the cell's events."""
    record = downloaded.project.record["good[cpu]"]
    assert record["outcome"] == "passed", downloaded.run.text
    assert "step_fetched" in {one["name"] for one in record["checks"]}
    events = (downloaded.project.root / record["run_dir"] / "events.jsonl").read_text()
    (fetched,) = (
        event for event in map(json.loads, events.splitlines()) if event["kind"] == "StepFetched"
    )
    assert (fetched["repo"], fetched["commit"]) == ("faulty/secured", COMMIT)
    assert [file["path"] for file in fetched["files"]] == ["config.json", "model.safetensors"]
    assert all(file["sha256"] for file in fetched["files"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unknown", "unknown.yaml:6: steps.download.models[0].repo: nobody/none: there is no such"),
        ("unreleased", "unreleased.yaml:7: steps.download.models[0].revision: good/tiny: has no"),
        ("cut", "cut.yaml:6: steps.download.models[0].repo: faulty/corrupt: config.json isn't"),
    ],
)
def test_what_the_hub_says_has_a_line_of_the_spec(
    downloaded: Downloaded, name: str, says: str
) -> None:
    """As the command gives it of its config, with the likely cause and what to do."""
    record = downloaded.project.record[f"{name}[cpu]"]
    assert record["outcome"] == "failed"
    for text in (says, "likely cause: ", "to do: "):
        assert text in record["reason"]
        assert text in downloaded.run.text


def test_the_token_is_in_nothing(downloaded: Downloaded) -> None:
    """Records, events, logs, JUnit, what was shown and what was fetched."""
    assert TOKEN not in downloaded.run.text
    files = [file for file in downloaded.project.root.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        content = file.read_bytes()
        assert TOKEN.encode() not in content and SIGNATURE.encode() not in content, file


def test_the_plan_says_that_a_network_is_needed(
    downloaded: Downloaded, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And which; nobody is asked where the hub is this machine, or where it is offline."""
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def network(*variables: tuple[str, str]) -> set[object]:
        with monkeypatch.context() as patch:
            for name, value in variables:
                patch.setenv(name, value)
            code, text = verb(downloaded.project, "plan", "--environment=plain", "--json")
        assert code == 0
        return {cell["network"] for cell in json.loads(text)["cells"]}

    assert network() == {"https://huggingface.co"}
    assert network(("HF_ENDPOINT", "https://mirror.test/")) == {"https://mirror.test"}
    assert network(("HF_HUB_OFFLINE", "1")) == {None}
    for address in ("http://127.0.0.1:80", "http://localhost:80", "http://[::1]:80"):
        assert network(("HF_ENDPOINT", address)) == {None}
    _, text = verb(downloaded.project, "plan", "--environment=plain")
    assert "good[cpu]  needs a network: https://huggingface.co\n" in text
