"""Steps of a recipe: each in a phase of its own, over one state."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import tiny_configuration

from tunematrix.evidence.events import Phase
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.stack.recipes import dpo, generate, parity, sft, transfer
from tunematrix.stack.recipes.steps import State, Step, walk


def save(state: State) -> None:
    """Name a folder."""
    state.saved = state.output_dir / "model"


def rename(state: State) -> None:
    """Name another beside it."""
    state.saved = state.saved.with_name("renamed")


def fail(state: State) -> None:
    """Raise."""
    raise FloatingPointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where events are written."""
    return tmp_path / "events.jsonl"


def test_steps_share_a_state_and_are_timed(tmp_path: Path, path: Path) -> None:
    """One goes on with what the one before has set; one that doesn't apply leaves no phase."""
    steps = [Step("save", save), Step("skipped", fail, lambda _: False), Step("rename", rename)]
    with EventLog(path) as events:
        state = walk(steps, State(tiny_configuration("unused.recipe"), events, tmp_path))
    assert state.saved == tmp_path / "renamed"
    phases = [event.name for event in read_events(path) if isinstance(event, Phase)]
    assert phases == ["save", "rename"]


def test_a_step_that_raises_is_where_it_ended(tmp_path: Path, path: Path) -> None:
    """Its name stands as the phase, and no later step is taken."""
    steps = [Step("save", save), Step("fail", fail), Step("rename", rename)]
    with EventLog(path) as events:
        state = State(tiny_configuration("unused.recipe"), events, tmp_path)
        with pytest.raises(FloatingPointError):
            walk(steps, state)
        assert events.current_phase == "fail"
    assert state.saved == tmp_path / "model"


def test_a_step_can_not_read_what_none_has_set(tmp_path: Path, path: Path) -> None:
    """There is no model before one is loaded, rather than an empty one."""
    with EventLog(path) as events:
        state = State(tiny_configuration("unused.recipe"), events, tmp_path)
        with pytest.raises(AttributeError, match="model"):
            state.model  # noqa: B018 - asking is what is tested


@pytest.mark.parametrize("recipe", [sft, dpo, generate, parity, transfer])
def test_steps_of_a_recipe_have_names_of_their_own(recipe: object) -> None:
    """Two phases of one name would be added up."""
    names = [step.name for step in vars(recipe)["STEPS"]]
    assert len(names) == len(set(names))
    assert names[0] == "prepare"
