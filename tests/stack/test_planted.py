"""Every difference that the shipped relations are said to notice is planted, and noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tunematrix.harness import read_setting
from tunematrix.matrix.plan import plan
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import shipped_configs
from tunematrix.spec.loader import load_specs
from tunematrix.workflow.cells import known_failures

ROOT = Path(__file__).parents[2]
SPECS = shipped_configs() / "specs"

PYPROJECT = f"""
[tool.pytest.ini_options]
tunematrix_specs = ["{SPECS}"]
addopts = ["-p", "no:cacheprovider"]

[tool.tunematrix.environments.cpu]
description = "PyTorch on the CPU"
backends = ["cpu"]
"""


def test_planted_differences_are_noticed(tmp_path: Path) -> None:
    """The relation fails on a measured value, whatever the sabotaged cell's own checks say.

    Quantizers make no other differences: `nox -s cpu -- -m planted` has them as well.
    """
    settings = tmp_path / "pyproject.toml"
    settings.write_text(PYPROJECT)
    arguments = [f"--config-file={settings}", "--environment=cpu", "--axis=quantizer=none"]
    command = [sys.executable, "-m", "pytest", *arguments, "-m", "planted", "-n", "2", str(SPECS)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = (tmp_path / ".tunematrix/cpu/results.jsonl").read_text().splitlines()
    records = [record for line in lines if "!" in (record := json.loads(line))["cell_id"]]
    assert {one["cell_id"]: one["reason"] for one in records if one["outcome"] != "passed"} == {}
    assert all(one["reason"].startswith("noticed: ") for one in records)
    assert {one["cell_id"] for one in records} == planned(), ran.stdout
    assert ran.returncode == 0, ran.stdout


def planned() -> set[str]:
    """The ids of all planted differences, but for those of the night, and of what fails anyhow."""
    setting = read_setting(ROOT, "cpu")
    selection = parse_selection(["quantizer=none"], setting.groups)
    found = plan(load_specs([SPECS]), setting.groups, setting.environment, selection)
    return {
        related.with_planted(planted).id
        for related in found.relations
        for planted in related.relation.planted
        if "nightly" not in related.spec.markers and not known_failures(related)
    }
