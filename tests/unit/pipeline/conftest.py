"""A hub on this machine, and the real command, run against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.pipeline.loopback_hub import SIGNATURE, TOKEN, Hub, serving

CONFIG = """\
huggingface: {{token: "${{HF_TOKEN}}"}}
timeout: {timeout}
models:
  - repo: {repo}
    files: {files}
    output_dir: "{{out}}"
"""


@dataclass(frozen=True)
class Said:
    """How a command ended, and all that it printed."""

    code: int
    text: str


@dataclass(frozen=True)
class Place:
    """A folder with a config, and the hub that its command asks.

    Attributes:
        root: the folder; hub: the server; into: where files are to go, if not to `out`.
    """

    root: Path
    hub: Hub
    into: Path | None = None

    @property
    def out(self) -> Path:
        """Where files are downloaded to."""
        return self.into or self.root / "out"

    @property
    def receipt(self) -> dict[str, Any]:
        """What the download left for later steps."""
        content: dict[str, Any] = json.loads((self.out / ".tunematrix-download.json").read_text())
        return content

    def write(self, repo: str, files: str = "[model.safetensors]", timeout: float = 60) -> None:
        """Write the config."""
        text = CONFIG.format(repo=repo, files=files, timeout=timeout)
        (self.root / "download.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        """The words of the command."""
        start = [sys.executable, "-m", "tunematrix", "download", "--config", "download.yaml"]
        return [*start, *arguments, f"out={self.out}"]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables of the command: no token, unless one is given."""
        unwanted = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE", "PYTEST")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        hub = {"HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.root / "home")}
        return {**kept, **hub, "HF_HUB_DISABLE_XET": "1", **variables}

    def run(self, *arguments: str, **variables: str) -> Said:
        """Run the command, and see that it showed and kept no secret."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = Said(done.returncode, done.stdout + done.stderr)
        for secret in (TOKEN, SIGNATURE):
            assert secret not in said.text
            for file in self.root.rglob("*"):
                assert not file.is_file() or secret.encode() not in file.read_bytes(), file
        assert "Traceback" not in said.text or "--verbose" in arguments
        return said


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """One server for all tests of a file."""
    with serving() as started:
        yield started


@pytest.fixture
def place(tmp_path: Path, hub: Hub) -> Place:
    """A folder of the test's own; the hub has forgotten what it was asked before."""
    hub.requests.clear()
    hub.counts.clear()
    hub.begun.clear()
    hub.going_on.clear()
    return Place(tmp_path, hub)
