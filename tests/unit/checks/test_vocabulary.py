"""Misspelt checks are refused before anything runs, and those of plug-ins are known."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tunematrix.checks.vocabulary import refuse_unknown_checks, unknown_check
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import load_specs
from tunematrix.versions.overlays import overlay

NO = "reason: it can't, link: 'https://example.org'"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write configs and specs in, and to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_what_is_shipped_names_no_unknown_check() -> None:
    """Neither in options nor in specs."""
    groups = read_groups([shipped_configs()])
    refuse_unknown_checks(groups, load_specs([shipped_configs() / "specs"]))


def test_relations_checks_are_known() -> None:
    """They can be expected to fail as well."""
    for name in ("same_gradients", "same_logits_mean", "ratio_stored_mb", "tolerances", "merge"):
        assert unknown_check(name) is None
    text = unknown_check("same_updats") or ""
    assert text.startswith("no check is called same_updats; did you mean same_updates")


def test_misspelt_names_in_specs_and_options(folder: Path) -> None:
    """All of them at once, each with its file, its line and the nearest right name."""
    write(
        folder,
        {
            "configs/recipe/mine.yaml": "name: mine\nowes: [process, loggg]\n",
            "configs/quantizer/odd.yaml": (
                "name: odd\n"
                "capabilities:\n"
                "  method:\n"
                f"    full: {{{NO}, checks: [reload, moovd]}}\n"
                "unsupported:\n"
                f"  - {{when: {{backend: mlx}}, {NO}, checks: [lables]}}\n"
            ),
            "specs/a.yaml": (
                "test_id: a\n"
                "recipe: sft\n"
                "known_failures:\n"
                "  - when: {backend: cpu}\n"
                "    check: gap_closd\n"
                "    reason: it can't\n"
                "    link: https://example.org\n"
            ),
        },
    )
    groups = read_groups([shipped_configs(), folder / "configs"])
    with pytest.raises(BadInput) as caught:
        refuse_unknown_checks(groups, load_specs([folder / "specs"]))
    assert str(caught.value).splitlines() == [
        "4 problems to correct:",
        "configs/quantizer/odd.yaml:4: capabilities.method.full.checks[1]: "
        "no check is called moovd; did you mean moved?",
        "configs/quantizer/odd.yaml:6: unsupported[0].checks[0]: "
        "no check is called lables; did you mean labels?",
        "configs/recipe/mine.yaml:2: owes[1]: "
        "no group of checks is called loggg; did you mean log?",
        "specs/a.yaml:5: known_failures[0].check: "
        "no check is called gap_closd; did you mean gap_closed?",
    ]


CHECK = '''
from tunematrix.checks.bound import AtMost
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import judge_by

@check(name="{name}", group="hurry", unit="s", bug="cells that hang")
def quick(evidence, claim):
    """The cell was quick."""
    return judge_by(AtMost(20.0), evidence.exit.seconds, "it took too long")
'''


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        (CHECK.format(name="quick"), 0, ""),
        (
            CHECK.format(name="moved"),
            4,
            "error: hurry (entry point of tunematrix.checks): a check is called moved already, in "
            "tunematrix.checks.parameters; rename yours, or uninstall its distribution\n",
        ),
        (
            "import no_such_library\n",
            4,
            "error: hurry (entry point hurried of tunematrix.checks) can't be imported: "
            "ModuleNotFoundError: No module named 'no_such_library'; mend it, or uninstall its "
            "distribution\n",
        ),
    ],
)
def test_checks_of_a_distribution_that_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: int, said: str
) -> None:
    """A recipe may owe its group and a spec name its check; what can't be used is bad input."""
    wheels = folder / "wheels"
    wheels.mkdir()
    info = "hurry-1.0.dist-info"
    with zipfile.ZipFile(wheels / "hurry-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("hurry.py", module)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hurry\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", "[tunematrix.checks]\nhurried = hurry\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    installed = overlay({"hurry": "1.0"}, folder / "cache", print)
    write(
        folder,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\ntunematrix_configs = ['configs']\n",
            "configs/recipe/hurried.yaml": "name: hurried\nowes: [process, hurry]\n",
            "specs/a.yaml": (
                "test_id: a\nrecipe: hurried\nknown_failures:\n"
                f"  - {{when: {{backend: cpu}}, check: quick, {NO}}}\n"
            ),
        },
    )
    path = os.pathsep.join([str(installed), str(Path(__file__).parents[3] / "src")])
    command = [sys.executable, "-m", "tunematrix", "plan", "specs"]
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, said)
