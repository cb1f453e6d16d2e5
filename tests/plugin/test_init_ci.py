"""The workflow of `tunematrix init --ci`: what linters say of it, and what its jobs run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunematrix.environments.table import Environment, read_environments
from tunematrix.scaffold.workflow import FILE, workflow

SHIPPED = [row for row in read_environments(Path("/"), []).values() if row.variant == "locked"]
MINE = Environment("tpu", "A machine in the cellar", ("cpu",))
HOSTED = [row for row in SHIPPED if row.name == "cpu"]


@pytest.fixture(params=["all", "hosted", "own"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The workflow of a project with all environments, one hosted, or one of its own."""
    rows = {"all": [*SHIPPED, MINE], "hosted": HOSTED, "own": [MINE]}[request.param]
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text(workflow(rows, "tunematrix==1.0", shards=3), encoding="utf-8")
    return path


def tool(name: str) -> str:
    """Where a linter is: in this virtualenv, or else on PATH; it has to be somewhere."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    assert found, f"{name} isn't installed; nox -s tests installs it"
    return found


def zizmor(file: Path) -> set[str]:
    """What the linter for security finds, but that versions aren't written as hashes."""
    command = [tool("zizmor"), "--offline", "--format=json", "--persona=regular", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return {finding["ident"] for finding in json.loads(ended.stdout)} - {"unpinned-uses"}


def schema(file: Path) -> subprocess.CompletedProcess[str]:
    """Hold a workflow against GitHub's schema."""
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows"]
    return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)


def test_linters(file: Path) -> None:
    """GitHub understands it; nothing in it is unsafe."""
    ended = schema(file)
    assert ended.returncode == 0, ended.stdout
    assert zizmor(file) == set()


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("persist-credentials: false", "fetch-depth: 0", "artipacked"),
        ("  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
        ('nox -s "$ENVIRONMENT"', 'nox -s "${{ github.head_ref }}"', "template-injection"),
        ("permissions:\n  contents: read", "permissions: write-all", "excessive-permissions"),
    ],
)
def test_the_linter_would_notice(tmp_path: Path, old: str, new: str, finding: str) -> None:
    """Each unsafe thing, once planted, is found."""
    text = workflow(SHIPPED, "tunematrix==1.0", shards=2)
    assert old in text
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert finding in zizmor(path)


def test_a_schema_that_is_broken(tmp_path: Path) -> None:
    """A key that GitHub doesn't know is noticed."""
    file = tmp_path / "workflow.yml"
    file.write_text(workflow(HOSTED, "x", shards=1).replace("runs-on:", "run-on:"))
    assert schema(file).returncode != 0


def read(file: Path) -> Mapping[str, Any]:
    """What a workflow says; YAML reads its key `on` as true."""
    said: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return said


def test_no_value_is_put_into_a_script(file: Path) -> None:
    """Scripts get what comes from outside in variables alone; each action has a version."""
    for job in read(file)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    assert read(file)["permissions"] == {"contents": "read"}


def test_who_runs_what(tmp_path: Path) -> None:
    """Pull requests run on GitHub's machines alone; each night every environment, in parts."""
    path = tmp_path / "workflow.yml"
    path.write_text(workflow([*SHIPPED, MINE], "tunematrix==1.0", shards=3), encoding="utf-8")
    jobs = read(path)["jobs"]
    machines = {
        name: {one["environment"]: one["runner"] for one in job["strategy"]["matrix"]["target"]}
        for name, job in jobs.items()
        if "strategy" in job
    }
    assert machines["change"] == {
        "cpu": ["ubuntu-24.04"],
        "mps": ["macos-15"],
        "mlx": ["macos-15"],
    }
    assert machines["everything"] == machines["change"] | {
        "cuda": ["self-hosted", "linux", "gpu"],
        "tpu": ["self-hosted", "tpu"],
    }
    shards = jobs["everything"]["strategy"]["matrix"]["shard"]
    assert re.findall(r"'(.*?)'", shards) == ['["1/1"]', '["1/3", "2/3", "3/3"]']
    assert jobs["report"]["needs"] == ["change", "everything"]
    kept = [s for s in jobs["everything"]["steps"] if "upload-artifact" in s.get("uses", "")]
    assert kept[0]["if"] == "always()"


def test_only_machines_of_ones_own(tmp_path: Path) -> None:
    """There is no job for pull requests then, and nothing waits for it."""
    path = tmp_path / "workflow.yml"
    path.write_text(workflow([MINE], "tunematrix==1.0", shards=1), encoding="utf-8")
    jobs = read(path)["jobs"]
    assert list(jobs) == ["everything", "report"]
    assert jobs["report"]["needs"] == ["everything"]


def test_the_report_of_several_machines(tmp_path: Path) -> None:
    """The very script of the last job, over records as the artifacts of other jobs hold them."""
    verified = Path(__file__).parents[2] / "docs" / "verified"
    for number, name in enumerate(["cpu", "mlx"]):
        (file, *_) = sorted(verified.glob(f"{name}-*.jsonl"))
        place = tmp_path / "records" / f"records-x-{number}" / "x" / "results.jsonl"
        place.parent.mkdir(parents=True)
        place.write_bytes(file.read_bytes())
    path = tmp_path / "workflow.yml"
    path.write_text(workflow(HOSTED, "tunematrix==1.0", shards=1), encoding="utf-8")
    scripts = [step.get("run", "") for step in read(path)["jobs"]["report"]["steps"]]
    (script,) = [script for script in scripts if "find " in script]
    program = tmp_path / "tunematrix"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tunematrix "$@"\n')
    program.chmod(0o755)
    summary = tmp_path / "summary.md"
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(summary), **_python()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    text = summary.read_text(encoding="utf-8")
    assert re.findall(r"^## ✓ `(\w+)`$", text, re.MULTILINE) == ["cpu", "mlx"]
    assert text == (tmp_path / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\w+) +run ", ended.stdout, re.MULTILINE) == ["cpu", "mlx"]


def _python() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k in ("PYTHONPATH", "LANG", "HOME")}
