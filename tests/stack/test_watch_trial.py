"""The trial of `tunematrix watch`: loops in plain PyTorch; all others by `nox -s watch-trial`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.stack.watch.honest import HONEST, Honest
from tests.stack.watch.planted import PLANTED
from tests.stack.watch.planting import Planted
from tests.stack.watch.trial import Where, alone, is_right, left_by, made_world, script_of
from tests.stack.watch.trial import verdict as verdict_on
from tests.stack.watch.trial import watch as watched

EACH_TIME = ("generator-detached", "targets-not-shifted", "model-made-again", "plain", "gan")
"""Half a minute; the rest of these loops is nightly."""
TORCH_ALONE = ("plain_lm", "gan", "vision", "ddp", "fsdp2", "odd_models", "odd_steps")
ALL: list[Planted | Honest] = [*PLANTED, *HONEST]
RUNS = {run.name: run for run in ALL}


def late(names: dict[str, Planted | Honest]) -> list[object]:
    """Return their names, nightly where they aren't for each time."""
    plain = [name for name, run in names.items() if run.loop in TORCH_ALONE]
    return [
        name if name in EACH_TIME else pytest.param(name, marks=pytest.mark.nightly)
        for name in plain
    ]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Where:
    """Make what the loops read, once."""
    out = tmp_path_factory.mktemp("trial")
    return Where(made_world(out / "world"), out, sys.executable)


def test_each_edit_stands_once_and_names_are_unique(tmp_path: Path) -> None:
    """No edit has gone stale, and each script is Python."""
    assert len(RUNS) == len(ALL)
    for run in RUNS.values():
        script = script_of(run, tmp_path / run.name)
        compile(script.read_text(encoding="utf-8"), str(script), "exec")


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", late(RUNS))
def test_what_is_planted_is_named_and_honest_runs_pass(name: str, where: Where) -> None:
    """The right check fails or warns; nothing fails where nothing is wrong."""
    seen = watched(RUNS[name], where)
    assert is_right(RUNS[name], verdict_on(RUNS[name], seen)), seen


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["plain", "plain-bf16", "vision-float16", "gan", "averaged"])
def test_nothing_changes_to_the_bit(name: str, where: Where) -> None:
    """What is printed and saved is the same with the probe and without it."""
    run = RUNS[name]
    left = alone(run, where)
    watched(run, where)
    assert left.exit == 0
    assert left_by(run, where) == left
