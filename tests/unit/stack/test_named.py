"""Models that judge, by their names on the Hub: cached, fetched, or not to be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.pipeline.loopback_hub import Hub, serving

from tunematrix.paths import python_path
from tunematrix.stack.toyworld.models import BASE

FIND = """
import sys
from tunematrix.stack.yardsticks.named import folder_of
print(folder_of(*sys.argv[1:]))
"""
WHOLE = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@dataclass(frozen=True)
class Place:
    """A cache of its own, and the hub that is asked."""

    home: Path
    hub: Hub

    def find(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Look a model up in a process of its own: the client reads its variables once."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        ours = {"HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.endpoint}
        return subprocess.run(
            [sys.executable, "-c", FIND, name],
            env={
                **kept,
                **ours,
                "HF_HUB_DISABLE_XET": "1",
                "PYTHONPATH": python_path(),
                **variables,
            },
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """It has the toy world's base model, and one without safetensors."""
    with serving() as started:
        files = {file.name: file.read_bytes() for file in BASE.iterdir()}
        started.more["good/base"] = {**files, "pytorch_model.bin": b"pickle", "code.py": b"raise"}
        started.more["good/old"] = {**files, "pytorch_model.bin": b"pickle"}
        del started.more["good/old"]["model.safetensors"]
        yield started


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    """Nothing is cached yet, and the hub has forgotten what it was asked."""
    hub.requests.clear()
    return Place(tmp_path, hub)


def test_fetched_once_and_then_taken_from_the_cache(place: Place) -> None:
    """Without weights in pickle form and without code; nobody is asked again."""
    first = place.find("good/base", HF_TOKEN="hf_secret")
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert {file.name for file in folder.iterdir()} >= WHOLE
    assert not {"pytorch_model.bin", "code.py"} & {file.name for file in folder.iterdir()}
    assert place.hub.requests and not any(one.token for one in place.hub.requests)
    place.hub.requests.clear()
    assert place.find("good/base").stdout == first.stdout
    assert place.find("good/base", HF_HUB_OFFLINE="1").stdout == first.stdout
    assert not place.hub.requests


def test_what_is_cached_in_part_is_fetched_whole(place: Place) -> None:
    """As by a program that wanted the tokenizer alone."""
    folder = Path(place.find("good/base").stdout.strip())
    (folder / "model.safetensors").unlink()
    again = place.find("good/base")
    assert again.stdout.strip() == str(folder) and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "variables", "says"),
    [
        ("good/base", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, and hub doesn't hold it"),
        ("good/base", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 can't be reached"),
        ("no/such", {}, "there is no such repository (401)"),
        ("good/old", {}, "it has no safetensors weights"),
    ],
)
def test_not_to_be_had(place: Place, name: str, variables: dict[str, str], says: str) -> None:
    """The message says why."""
    done = place.find(name, **variables)
    assert done.returncode == 1 and says in done.stderr
