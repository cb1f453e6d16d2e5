from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.spec.conftest import OURS, Load

from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec


def test_defaults_with_recipe(load: Load) -> None:
    """With `recipe`, no GPU and no files are asked for; the rest is as in the known form."""
    spec = load(OURS)
    assert spec.gpu_requirement == 0
    assert spec.expected_files == ()
    assert spec.loss.no_nan is True
    assert spec.loss.final_max is None
    assert spec.min_steps_logged == 1
    assert spec.timeout == 300
    assert spec.markers == ("integration",)
    assert spec.matrix.axes == {}
    assert spec.inference is None


def test_defaults_of_the_known_form() -> None:
    """Without `recipe`, a GPU and the trainer's log are asked for, as in the known form."""
    spec = Spec(test_id="tiny", project_dir="examples/tiny", config="train.yaml")
    assert spec.gpu_requirement == 1
    assert spec.expected_files == ("trainer_logs.json",)
    assert spec.dynamic_args == {}
    assert spec.stderr.forbidden_patterns == ()


def test_everything_at_once(load: Load) -> None:
    """All fields that work today are read as they were written."""
    spec = load(
        OURS
        + """
description: It learns.
matrix: {method: [lora, dora], quantizer: all}
overrides:
  train.max_steps: 60
  train.learning_rate: 3e-4
  method.implementation.use_rslora: true
  method.implementation.modules_to_save: [lm_head]
loss: {final_max: 1, final_min: 0.1, first_max: 6.5, first_min: 4, no_nan: false}
gap_closed: {min: 0.9}
logit_error: {max: 0.2}
memory:
  stored_mb: {min: 1, max: 2.5}
  process_peak_mb: {max: 400}
throughput: {min_tokens_per_second: 100}
reload: {max_difference: 1e-5}
stderr: {forbidden_patterns: [Traceback], warn_patterns: [deprecated]}
expected_files: [adapter_model.safetensors]
min_steps_logged: 2
gpu_requirement: 1
timeout: 60
markers: [smoke]
known_failures:
  - when: {quantizer: [hqq-int4, hqq-int8], method: dora}
    raises: NotImplementedError
    reason: not yet
    link: https://example.org/1
"""
    )
    assert spec.matrix.axes == {"method": ("lora", "dora"), "quantizer": "all"}
    assert spec.overrides == {
        "train.max_steps": 60,
        "train.learning_rate": 3e-4,
        "method.implementation.use_rslora": True,
        "method.implementation.modules_to_save": ("lm_head",),
    }
    assert (spec.loss.final_min, spec.loss.final_max) == (0.1, 1)
    assert spec.memory is not None
    assert spec.memory.stored_mb is not None
    assert spec.memory.stored_mb.max == 2.5
    assert spec.known_failures[0].raises == "NotImplementedError"


def test_known_failure_matches_on_all_axes(load: Load) -> None:
    """All axes of `when` have to match, each with any of its options."""
    spec = load(
        OURS + "known_failures: [{when: {quantizer: [hqq-int4, hqq-int8], method: dora}, "
        "check: loss.final_max, reason: r, link: 'https://e.org'}]"
    )
    failure = spec.known_failures[0]
    assert failure.matches({"quantizer": "hqq-int8", "method": "dora", "data": "text"})
    assert not failure.matches({"quantizer": "hqq-int8", "method": "lora"})
    assert not failure.matches({"quantizer": "none", "method": "dora"})


def test_specs_are_frozen(load: Load) -> None:
    """A check can't move the bounds that it is held to."""
    spec = load(OURS)
    for section, field in ((spec, "timeout"), (spec.loss, "no_nan"), (spec, "matrix")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, getattr(section, field))


def test_source_is_no_part_of_equality(load: Load) -> None:
    """The same claim is equal wherever it is written; another bound makes another claim."""
    first = load(OURS)
    Path("other.yaml").write_text(f"\n\n{OURS}")
    (moved,) = load_specs([Path("other.yaml")])
    assert first.where("recipe") == "spec.yaml:2"
    assert moved.where("recipe") == "other.yaml:4"
    assert first == moved
    assert len({first, moved}) == 1
    assert first != load(f"{OURS}timeout: 1\n")


def test_where_an_absent_entry_belongs(load: Load) -> None:
    """An entry that isn't there is placed in its section, and one of Python nowhere."""
    spec = load(f"{OURS}loss:\n  final_max: 1\n")
    assert spec.where("loss", "final_max") == "spec.yaml:4"
    assert spec.where("loss", "final_min") == "spec.yaml:3"
    assert Spec(test_id="a", recipe="sft").where("loss") == "<python>"


def _pipeline(**steps: Any) -> Spec:
    spec = {"test_id": "a", "recipe": "pipeline", "steps": steps, "inference": {"max_tokens": 9}}
    return Spec.model_validate(spec)


@pytest.mark.parametrize(("names", "served"), [("sft", "sft"), ("sft dpo", "dpo")])
def test_inference_of_a_pipeline(names: str, served: str) -> None:
    """It serves what the last step has left that leaves a model; without it nothing is added."""
    training = {"max_steps": 1, "batch_size": 1, "learning_rate": 0.1}
    bodies = {"sft": {"training": training}, "dpo": {"alignment": training}}
    own = {"model": {"path": "m"}, "dataset": {"path": "d"}}
    spec = _pipeline(**{name: {**own, **bodies[name]} for name in names.split()})
    assert spec.pipeline is not None and spec.pipeline.serve is not None
    serve = spec.pipeline.serve
    assert (serve.model.path, serve.max_tokens) == (f"{{{served}}}", 9)
    assert (serve.inference, serve.prompts) == (spec.inference, ("Once upon a time",))
    assert list(spec.pipeline.taken) == [*names.split(), "serve"]
    bare = spec.model_copy(update={"inference": None})
    assert bare.pipeline is bare.steps


def test_inference_with_a_server_of_its_own() -> None:
    """The step keeps what it says, and gives the completion besides."""
    spec = _pipeline(serve={"model": {"path": "m"}, "prompts": ["p"], "max_tokens": 3})
    assert spec.pipeline is not None and spec.pipeline.serve is not None
    serve = spec.pipeline.serve
    assert (serve.prompts, serve.max_tokens, serve.inference) == (("p",), 3, spec.inference)
