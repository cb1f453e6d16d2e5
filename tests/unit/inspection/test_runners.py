"""Command lines of a project: found, called briefly as real processes, and judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.inspection.projects import FAULTS, lay_out_project, spoil

from tunematrix.errors import BadInput
from tunematrix.inspection.calls import blame
from tunematrix.inspection.runners import Runner, RunnerReport, find_runners, run_runner


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project, in a folder whose name Hydra's command line could stumble over."""
    folder = tmp_path / "a project, of (mine)"
    folder.mkdir()
    return lay_out_project(folder)


def _runner(project: Path, name: str = "train") -> Runner:
    return next(runner for runner in find_runners(project) if runner.name == name)


def _run(project: Path, name: str = "train") -> RunnerReport:
    return run_runner(_runner(project, name), project / ".tunematrix" / "runners" / name)


def test_all_scripts_are_found(project: Path) -> None:
    """Those of `[project.scripts]`, with no other list; one that is added is there at once."""
    names = [runner.name for runner in find_runners(project)]
    assert names == ["train", "evaluate", "convert", "greet"]
    spoil(project, "pyproject.toml", "greet =", 'again = "tinytrain.run:main"\ngreet =')
    assert "again" in [runner.name for runner in find_runners(project)]


@pytest.mark.parametrize("name", ["train", "evaluate", "convert", "greet"])
def test_an_honest_script_passes(project: Path, name: str) -> None:
    """Hydra's with a brief run, argparse's with --help, any other by its import alone."""
    report = _run(project, name)
    assert report.problems == (), str(report)


def test_the_run_is_brief(project: Path) -> None:
    """Two steps of a hundred thousand, on the CPU, with what the run writes in one folder."""
    report = _run(project)
    (losses,) = report.folder.rglob("losses.txt")
    assert losses.is_relative_to(report.folder / "output")
    assert losses.read_text().count(",") == 1
    assert "model.device=cpu" in report.command


@pytest.mark.each_time(4)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_its_place(project: Path, fault: str) -> None:
    """The first line names the file and the line to change, and why."""
    file, old, new, blamed, line, words = FAULTS[fault]
    spoil(project, file, old, new)
    report = _run(project)
    assert report.problems, "the fault went unnoticed"
    first = report.problems[0]
    assert (first.file, first.line) == (project / blamed, line), str(report)
    assert words in first.text


def test_a_config_folder_that_is_no_package(project: Path) -> None:
    """Hydra looks for the configs of an installed command in a package."""
    (project / "src/tinytrain/conf/__init__.py").unlink()
    first = _run(project).problems[0]
    assert (first.file, first.line) == (project / "src/tinytrain/run.py", 5)
    assert "has no __init__.py" in first.text


def test_a_script_that_hangs_is_ended(project: Path) -> None:
    """At its time limit, with what it started."""
    spoil(project, "src/tinytrain/run.py", "import sys", "import sys, time\ntime.sleep(600)")
    spoil(project, "pyproject.toml", "[project.scripts]",
          "[tool.tunematrix.runners.scripts.train]\ntimeout = 3\n[project.scripts]")  # fmt: skip
    report = _run(project)
    assert "still running after 3 s" in report.problems[0].text


def test_what_an_earlier_run_left_is_no_evidence(project: Path) -> None:
    """The experiment folder has to be made by this very run."""
    assert _run(project).problems == ()
    spoil(project, "src/tinytrain/run.py", "folder.mkdir(parents=True)", "return")
    assert "never made it" in _run(project).problems[0].text


def test_settings_replace_what_is_chosen(project: Path) -> None:
    """Overrides, variables, a folder of output and files that may be written are the project's."""
    spoil(project, "src/tinytrain/run.py", "    print(", "    import os; Path('cache').mkdir()\n"
          "    Path('cache', os.environ['NAME']).touch()\n    print(")  # fmt: skip
    spoil(project, "pyproject.toml", "[project.scripts]", """[tool.tunematrix.runners]
may_write = ["cache/*"]
variables = {NAME = "named"}
exclude = ["greet"]
[tool.tunematrix.runners.scripts.train]
arguments = ["data.num_samples=4", "data.batch_size=1", "data.num_workers=0", "model.device=cpu",
    "output_dir='{output_dir}/mine'", "hydra.run.dir='{output_dir}/hydra'"]
output = "mine"
[project.scripts]""")  # fmt: skip
    assert [runner.name for runner in find_runners(project)] == ["train", "evaluate", "convert"]
    report = _run(project)
    assert report.problems == (), str(report)
    assert (project / "cache" / "named").is_file()


def test_a_wrong_setting_is_named_with_its_line(project: Path) -> None:
    """An unknown key is never passed over."""
    spoil(project, "pyproject.toml", "[project.scripts]",
          "[tool.tunematrix.runners]\ntimeoot = 3\n[project.scripts]")  # fmt: skip
    with pytest.raises(BadInput, match=r"pyproject\.toml:5.*timeoot.*did you mean timeout"):
        find_runners(project)


def test_blame_goes_to_the_first_cause() -> None:
    """Of an exception that Hydra raises from another, the other one; of a handled one, the last."""
    head = "Traceback (most recent call last):\n"
    mine = "  File \"/p/src/a.py\", line 3, in f\n    x\nKeyError: 'k'\n"
    hydras = '  File "/lib/site-packages/hydra.py", line 9, in g\n    y\nBad: here\n'
    because = "\nThe above exception was the direct cause of the following exception:\n\n"
    meanwhile = "\nDuring handling of the above exception, another exception occurred:\n\n"
    root = Path("/p")
    assert blame(head + mine + because + head + hydras, root) == (
        "KeyError: 'k'",
        (Path("/p/src/a.py"), 3),
    )
    assert blame(head + hydras + meanwhile + head + mine, root)[0] == "KeyError: 'k'"
    assert blame(head + hydras, root) == ("Bad: here", None)
    assert blame("error_rate: 0.1\n", root) == ("", None)
