"""What is collected, without an ML library, a process or a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

SUITE = Path(__file__).parents[2] / "configs/specs"
ML = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes", "hqq",
      "optimum", "torchao", "mlx", "mlx_lm", "numpy", "safetensors", "tokenizers")  # fmt: skip

SPY = """
import sys, psutil
def pytest_sessionfinish():
    print("loaded:", *sorted(module for module in sys.modules if "." not in module))
    print("children:", len(psutil.Process().children(recursive=True)))
"""


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """Three specs; one of them has a marker, one an exclusion."""
    project = new_project()
    refusal = '{reason: "so they say", link: "https://example.org/1"}'
    project.option("quantizer", "refused", f"capabilities: {{recipe: {{refuse: {refusal}}}}}\n")
    project.spec("good", "succeed", "markers: [smoke]\n", "[plain, tiny-int4]")
    project.spec("bad", "refuse", "", "[plain, tiny-int4, refused]")
    project.write("specs/deep/lower.yaml", f"test_id: lower\n{REST}")
    return project


REST = "recipe: chatter\noverrides: {quantizer: plain}\n"
GOOD = ["specs/good.yaml::good[plain-plain]", "specs/good.yaml::good[plain-tiny-int4]"]
BAD = ["specs/bad.yaml::bad[plain-plain]", "specs/bad.yaml::bad[plain-tiny-int4]"]
LOWER = ["specs/deep/lower.yaml::lower[plain]"]
REFUSED = ["specs/bad.yaml::bad[plain-refused]"]


@pytest.mark.each_time(3)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-k", "tiny-int4"], [BAD[1], GOOD[1]]),
        (["-m", "probe or smoke"], [*REFUSED, *GOOD]),
        (["specs/deep", GOOD[1]], [GOOD[1], *LOWER]),
        (["--axis=quantizer=tiny-int4,plain", "--axis=recipe=succeed"], GOOD),
        (["."], [*BAD, *GOOD, *LOWER]),
    ],
)
def test_what_is_selected(project: Project, arguments: list[str], expected: list[str]) -> None:
    """By word, marker, path, node id and axis; probes only where they are asked for."""
    run = project.pytest("--collect-only", "-q", *arguments)
    assert (run.code, sorted(run.collected)) == (0, sorted(expected))
    assert not (project.root / ".tunematrix").exists()


def test_collecting_imports_and_starts_nothing(project: Project) -> None:
    """The whole shared suite is listed, by the plugin that is installed, with no ML library."""
    project.write("spy.py", SPY)
    command = [sys.executable, "-m", "pytest", "-p", "spy", "--collect-only", "-q", str(SUITE)]
    run = project.run(command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="")
    assert run.code == 0
    assert len(run.collected) > 50
    loaded = run.text.partition("loaded: ")[2].splitlines()[0].split()
    assert "tunematrix" in loaded
    assert not set(loaded) & set(ML)
    assert "children: 0\n" in run.text


def test_other_yaml_is_left_alone(project: Project) -> None:
    """A folder that isn't configured belongs to somebody else; a file that is named is a spec."""
    project.write("elsewhere/other.yaml", f"test_id: other\n{REST}")
    folder = project.pytest("--collect-only", "-q", "elsewhere")
    assert (folder.code, folder.collected) == (5, [])
    named = project.pytest("--collect-only", "-q", "elsewhere/other.yaml")
    assert (named.code, named.collected) == (0, ["elsewhere/other.yaml::other[plain]"])
