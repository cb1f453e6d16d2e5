"""Debug mode: environments + configurations, and nothing but what the allow-list has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunematrix.command.debugging import debug_specs
from tunematrix.command.specs import completed
from tunematrix.configuration.trainer import Trainer
from tunematrix.errors import BadInput, NothingTested
from tunematrix.spec.model import Spec

TRAINER = Trainer.model_validate(
    {
        "command": ["{python}", "t.py", "{config}", "{output_dir}", "{dynamic_args}"],
        "launchers": ["single", "torchrun"],
        "debug": {
            "max_steps": {"value": 2, "changes": "steps"},
            "logging_steps": {"value": 1, "changes": "interval"},
            "model": {"value": "tiny", "changes": "checkpoint"},
        },
    }
)


def spec(name: str, config: str, **fields: Any) -> Spec:
    """Return a spec of the trainer."""
    return Spec.model_validate(
        {"test_id": name, "project_dir": ".", "config": config, "gpu_requirement": 0, **fields}
    )


def light(tmp_path: Path, *specs: Spec) -> Any:
    """Return what debug mode runs of specs."""
    trainers = {"mine": TRAINER}
    return debug_specs(completed(specs, trainers, tmp_path), trainers)


def test_the_count_is_a_sum(tmp_path: Path) -> None:
    """Of launchers and configurations; a configuration that two specs name runs once."""
    specs = [
        spec("a", "a.yaml", matrix={"launcher": ["single", "torchrun", "accelerate"]}),
        spec("b", "b.yaml", loss={"final_max": 1.0}, dynamic_args={"max_steps": 500}),
        spec("b2", "b.yaml"),
    ]
    found = light(tmp_path, *specs)
    assert [one.test_id for one in found.configs] == ["a", "b"]
    (environments,) = found.environments
    assert environments.matrix.axes == {"launcher": ("single", "torchrun")}
    assert environments.config == "a.yaml"


def test_a_configuration_gets_the_arguments_of_the_list(tmp_path: Path) -> None:
    """And bounds that say nothing of two steps are left out."""
    whole = spec("b", "b.yaml", loss={"final_max": 1.0}, dynamic_args={"max_steps": 500})
    (config,) = light(tmp_path, whole).configs
    assert config.dynamic_args == {"max_steps": 2, "logging_steps": 1, "model": "tiny"}
    assert config.loss.final_max is None and config.loss.no_nan
    assert config.expected_files == ()
    assert config.min_steps_logged == 1
    assert config.overrides == {"launcher": "single"}


def test_any_other_override_is_refused_by_name(tmp_path: Path) -> None:
    """All of them at once."""
    with pytest.raises(BadInput) as caught:
        light(
            tmp_path,
            spec("a", "a.yaml", dynamic_args={"learning_rate": 1e-3, "max_step": 3}),
            spec("b", "b.yaml", overrides={"dynamic_args.seed": 3}),
        )
    text = str(caught.value)
    assert "dynamic_args.learning_rate: learning_rate is not on the allow-list" in text
    assert "so it may alter what is tested; add it there if it can't" in text
    assert "did you mean max_steps? If not, add it there" in text
    assert "dynamic_args.seed may alter what is tested" in text


def test_debug_mode_never_lengthens_a_run(tmp_path: Path) -> None:
    """A spec that takes fewer steps than debug mode would is refused."""
    with pytest.raises(BadInput, match="is 1, fewer than debug mode's 2 steps"):
        light(tmp_path, spec("a", "a.yaml", dynamic_args={"max_steps": 1}))


def test_without_a_trainer_there_is_nothing_to_run(tmp_path: Path) -> None:
    """Other recipes have no debug mode."""
    with pytest.raises(NothingTested, match="debug mode runs the configurations of trainers"):
        debug_specs([Spec.model_validate({"test_id": "x", "recipe": "sft"})], {})
