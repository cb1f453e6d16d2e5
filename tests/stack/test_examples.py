"""The examples run as their pages say: real trainers, in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENTS = {
    "lightning-hydra": "points",
    "litgpt": "litgpt",
    "llama-factory": "llama-factory",
    "mlx-lm": "mlx-lm",
    "pipeline": "cpu",
    "torchrun": "script",
    "trl": "trl",
}
HERE = ("mlx-lm", "pipeline", "torchrun")
"""Those whose packages the tests' own environment has, and that take less than a minute."""
SECONDS = 1800


def call(
    example: str, state: Path, *words: str, timeout: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python in the folder of an example."""
    environ = {**os.environ, "TUNEMATRIX_STATE": str(state), "NO_COLOR": "1"}
    command = [sys.executable, "-m", *words]
    folder = EXAMPLES / example
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout
    )


def outcomes(state: Path, environment: str) -> dict[str, str]:
    """What the records say: the outcome of each cell and relation."""
    lines = (state / environment / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["cell_id"]: record["outcome"] for record in map(json.loads, lines)}


def test_every_example_is_tried() -> None:
    """A folder with a pyproject.toml is an example, with a page of its own."""
    examples = {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")}
    assert examples == set(ENVIRONMENTS)
    for example in examples:
        page = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
        assert f"nox -s {ENVIRONMENTS[example]}\n" in page


@pytest.mark.each_time(4)
@pytest.mark.parametrize("example", ENVIRONMENTS)
def test_an_example_is_planned_without_its_packages(example: str, tmp_path: Path) -> None:
    """Its specs, its trainer and its table of environments are right."""
    done = call(example, tmp_path, "tunematrix", "plan", f"--environment={ENVIRONMENTS[example]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " cells, 0 exclusions" in done.stdout or "1 cell, 0 exclusions" in done.stdout


@pytest.mark.each_time(1)
@pytest.mark.parametrize("example", HERE)
def test_an_example_runs_here(example: str, tmp_path: Path) -> None:
    """Its smoke cells, by the packages of this environment."""
    environment = ENVIRONMENTS[example]
    options = [f"--environment={environment}", "-m", "smoke"]
    done = call(example, tmp_path, "tunematrix", "run", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(outcomes(tmp_path, environment).values()) == {"passed"}


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("example", ENVIRONMENTS)
def test_an_example_runs_in_its_own_environment(example: str, tmp_path: Path) -> None:
    """As its page says: `nox -s NAME` builds it with the versions in constraints.txt."""
    environment = ENVIRONMENTS[example]
    done = call(example, tmp_path, "nox", "-s", environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(outcomes(tmp_path, environment).values()) == {"passed"}
