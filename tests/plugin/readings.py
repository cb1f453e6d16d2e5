"""How the pages are followed: the project that a reader has, and what is done between commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.plugin.pages import ROOT, block

Change = Callable[[Path], None]
"""Takes the folder, and does what a reader does there beside calling commands."""
FIRST, SECOND = (
    next((ROOT / "docs/verified").glob(f"cpu-*-{machine}.jsonl"))
    for machine in ("amd-epyc", "intel-r-xeon-r-processor")
)
"""Records of two machines."""
RESULTS = ".tunematrix/cpu/results.jsonl"
EXTENDING, TRAINERS, TUTORIAL = "docs/extending.md", "docs/trainers.md", "docs/tutorial.md"
SMALL_RANK, MY_LORA = "configs/specs/small-rank.yaml", "configs/specs/my-lora.yaml"


@dataclass(frozen=True)
class Reading:
    """How the commands of a page are followed, in their order, in one folder.

    Attributes:
        project: fills the folder.
        before: command to what is done before it, each time that it comes.
        codes: exit codes other than 0, and than 4 of a command that is refused.
        other_figures: commands whose output has figures of a run that is run anew now and then.
        other_output: commands whose output on the page is of a run that can't be had here.
    """

    project: Change
    before: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    other_figures: tuple[str, ...] = ()
    other_output: tuple[str, ...] = ()


def having(files: Mapping[str, str]) -> Change:
    """Return what writes these files."""

    def write(folder: Path) -> None:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return write


def instead(files: Mapping[str, str]) -> Change:
    """Return what begins another project with these files, in an empty folder."""

    def begin(folder: Path) -> None:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        having(files)(folder)

    return begin


def correcting(name: str, old: str, new: str) -> Change:
    """Return what replaces a text in a file."""

    def correct(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return correct


def adding(name: str, source: Path) -> Change:
    """Return what appends a file's lines to those that are there."""

    def add(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))

    return add


def checkout(folder: Path) -> None:
    """Make a folder like a checkout, in which `nox -s cpu` has run."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    having({RESULTS: FIRST.read_text(encoding="utf-8")})(folder)


def checkout_with_verified(folder: Path) -> None:
    """Make one with the records of other machines."""
    checkout(folder)
    shutil.copytree(ROOT / "docs/verified", folder / "docs/verified")


def checkout_on_a_gpu(folder: Path) -> None:
    """Make one in which `nox -s cuda` has run; the records are those of another environment."""
    checkout(folder)
    (folder / ".tunematrix/cpu").rename(folder / ".tunematrix/cuda")


TINY = {
    "pyproject.toml": block(TRAINERS, "[tool.pytest.ini_options]"),
    "specs/tiny.yaml": block(TRAINERS, "test_id: tiny"),
    "tiny.yaml": "",
    "train.py": Path(__file__).with_name("toy_trainer.py").read_text(encoding="utf-8"),
}
_HEAD = "[tool.tunematrix.trainers.mine]\n"
_BEGUN, _DEBUGGED = TINY["pyproject.toml"], block(TRAINERS, f"{_HEAD}launchers").removeprefix(_HEAD)
LINE = {
    "pyproject.toml": block(EXTENDING, '[tool.pytest.ini_options]\ntunematrix_specs = ["specs"]'),
    "specs/line.yaml": block(EXTENDING, "test_id: line"),
    "train.py": block(EXTENDING, '"""Fit y'),
}
STACK = {
    "pyproject.toml": '[tool.pytest.ini_options]\ntunematrix_specs = ["specs"]\n',
    "specs/stack.yaml": block("docs/covering.md", "test_id: stack"),
}
CONFIGS = {
    "pyproject.toml": "",
    "conf/config.yaml": "defaults:\n  - data: points\n  - model: null\n  - _self_\ndim: 8\n",
    "conf/data/points.yaml": "rows: 8\n",
    "conf/model/wide.yaml": "_target_: tinygg.models.Denoiser\ndim: ${dimm}\nhiden: 8\n",
    "tinygg/__init__.py": "",
    "tinygg/models.py": "class Denoiser:\n    def __init__(self, dim, hidden=1):\n        pass\n",
}
READINGS = {
    "README.md": Reading(checkout, other_figures=(".nox/cpu/bin/tunematrix report -e cpu",)),
    "CONTRIBUTING.md": Reading(checkout_on_a_gpu),
    "docs/config-checks.md": Reading(having(CONFIGS), codes={"tunematrix check conf": 1}),
    "docs/covering.md": Reading(having(STACK), other_figures=("tunematrix plan --missing",)),
    EXTENDING: Reading(
        checkout,
        before={
            f"tunematrix plan {SMALL_RANK}": (
                having({SMALL_RANK: block(EXTENDING, "test_id: small-rank")}),
            ),
            "tunematrix plan": (instead(LINE),),
        },
    ),
    "docs/history.md": Reading(
        checkout,
        before={
            "tunematrix history --between 20261128-2035 20261130-0208": (adding(RESULTS, SECOND),),
            "tunematrix history --add mac/results.jsonl --add gpu-box/results.jsonl": (
                having(
                    {
                        "mac/results.jsonl": SECOND.read_text(encoding="utf-8"),
                        "gpu-box/results.jsonl": SECOND.read_text(encoding="utf-8"),
                    }
                ),
            ),
        },
        other_figures=(
            "tunematrix history",
            "tunematrix history --between 20261128-2035 20261130-0208",
        ),
        other_output=('tunematrix history "lora[cpu-lora-bnb-nf4]"',),
    ),
    "docs/report.md": Reading(
        checkout_with_verified,
        other_figures=("tunematrix report --html report.html docs/verified/*.jsonl",),
    ),
    "docs/start.md": Reading(checkout),
    TRAINERS: Reading(
        having(TINY),
        before={
            "tunematrix plan --debug-mode": (having({"pyproject.toml": f"{_BEGUN}{_DEBUGGED}"}),)
        },
    ),
    "docs/troubleshooting.md": Reading(
        checkout,
        codes={
            "tunematrix plan --enviroment cpu": 4,
            "tunematrix run -k no-such-cell": 5,
            "tunematrix plan configs/specs/lora.yaml --axis method=dora": 5,
            "tunematrix run method=full quantizer=bnb-nf4": 5,
            "tunematrix report -e mlx": 5,
        },
    ),
    TUTORIAL: Reading(
        checkout,
        before={
            f"tunematrix plan {MY_LORA}": (
                having({MY_LORA: block(TUTORIAL, "test_id: my-lora")}),
                correcting(MY_LORA, "gap_closd", "gap_closed"),
                correcting(MY_LORA, "train.max_step:", "train.max_steps:"),
            ),
        },
        other_output=("tunematrix report -e cpu",),
    ),
    "docs/verbs.md": Reading(
        checkout,
        before={"tunematrix check conf": (having({"conf/config.yaml": "rows: 8\n"}),)},
    ),
    "docs/your-project.md": Reading(
        instead({}),
        before={
            "tunematrix init --environments cpu,mlx": (
                instead({"noxfile.py": "import nox\n", "pyproject.toml": "[tool.mine]\n"}),
            )
        },
    ),
}
"""Page to how it is followed, of each page with a command that isn't run elsewhere."""
