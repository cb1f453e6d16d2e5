from __future__ import annotations

from collections.abc import Callable

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.overrides import resolved
from tunematrix.spec import Spec
from tunematrix.spec.yaml_tree import Value

Load = Callable[..., Spec]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.max_steps", "61"),
        ("train.max_grad_norm", "0.5"),
        ("train.max_grad_norm", "2"),
        ("train.gradient_checkpointing", "true"),
        ("train.learning_rate", "3e-4"),
        ("train.learning_rate", "1"),
        ("train.too_long", "cut"),
        ("method.implementation.use_rslora", "true"),
        ("method.implementation.modules_to_save", "[lm_head]"),
        ("method.implementation.rank_pattern.down_proj", "4"),
        ("optimizer.eps", "1e-7"),
        ("meters.allocator", "true"),
    ],
)
def test_right_overrides(shipped: Groups, load: Load, key: str, value: str) -> None:
    """A value of its default's type is taken, whole numbers for numbers included."""
    (cell,), _ = expand(load(f"overrides: {{{key}: {value}}}"), shipped, ["cpu"])
    assert list(cell.overrides) == [key]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.max_step: 1", "there is no such key in cell.yaml; did you mean train.max_steps"),
        ("trian.max_steps: 1", "there is no such key in cell.yaml; did you mean train.max_steps"),
        ("method.implementation.rnk: 1", "no such key in method/lora.yaml; did you mean method.im"),
        ("train.max_steps.x: 1", "there is no such key in cell.yaml; did you mean train.max_steps"),
        ("method.implementation: 1", "is a section; override its keys: method.implementation.ran"),
        ("method.implementation.rank_pattern: 4", "is a table; override an entry of it, such as"),
        ("train.max_steps: 1.5", "expected a whole number, got 1.5; write it without decimals"),
        ("train.max_steps: '1'", "expected a whole number, got '1'; write it without quotes"),
        ("train.max_steps: true", "expected a whole number, got true; write it in digits"),
        ("train.max_steps: [1]", "expected a whole number, got a list; write it in digits"),
        ("train.max_grad_norm: false", "expected a number, got false; write it in digits"),
        ("train.max_grad_norm: x", "expected a number, got 'x'; write it in digits"),
        ("train.max_steps: ten", "expected a whole number, got 'ten'; write it in digits"),
        ("train.max_steps: '1.5'", "expected a whole number, got '1.5'; write it without quotes a"),
        ("metod: lora", "there is no such key in cell.yaml; did you mean method or model?"),
        ("trian: 1", "there is no such key in cell.yaml; did you mean train?"),
        (
            "train.gradient_checkpointing: 1",
            "expected true or false, got 1; write one of",
        ),
        ("data.form: 1", "expected 'text', 'unequal', 'chat', 'prompt-completion' or"),
        ("method.implementation.modules_to_save: x", "expected a list, got 'x'; its default is []"),
        ("train.learning_rate: fast", "expected a number, got 'fast'; write it in digits"),
        ("train.batch_size: -4", "expected at least 1, got -4; raise it"),
        ("train.max_steps: 0", "expected at least 1, got 0; raise it"),
        ("train.learning_rate: -1e-3", "expected at least 0, got -0.001; raise it"),
        ("train.loss_on: 3", "expected 'all', 'completion' or 'assistant', got 3; write one of"),
        ("train.loss_on: complietion", "complietion is not one of its values; did you mean comple"),
        ("train.loss_on: completion", "of text, all counts; choose other data instead"),
        ("train.eval_steps: 100", "100 is beyond train.max_steps (40), so it would never happen"),
        ("train.interrupt_at: 41", "41 is beyond train.max_steps (40), so it would never happen"),
        ("train.load_best: true", "needs evaluations to choose by; set train.eval_steps"),
        ("launcher.processes: 2", "has no effect under single, which starts no others; use ddp o"),
        ("train.padding: left", "left is not one of its values; it can be pad, eos"),
        ("train.checkpointing: true", "expected 'non-reentrant' or 'library', got true; write one"),
        ("recipe.owes: [log]", "is what recipe/sft.yaml declares and can't be overridden; corr"),
        ("backend.hides: [labels]", "is what backend/cpu.yaml declares and can't be overridden; "),
        ("data.form: '${oc.env:HOME}'", "${oc.env:HOME} would be interpolated; write the value"),
        ("model.path: '???'", "??? would be interpolated; write the value"),
        ("method.implementation._target_: os.system", "decides which code runs and can't be over"),
        ("recipe.implementation._partial_: false", "decides which code runs and can't be overri"),
        ("quantizer.capabilities.backend: x", "is what quantizer/none.yaml declares and can't be"),
        ("quantizer.requires: [x]", "is what quantizer/none.yaml declares and can't be overridde"),
        ("backend.preload: []", "is what backend/cpu.yaml declares and can't be overridden; corr"),
        ("quantizer.theory: 1", "is what quantizer/none.yaml declares and can't be overridden; c"),
        ("quantizer.theory.weight_bits: 2", "is what quantizer/none.yaml declares and can't be o"),
        ("backend.prepare: x", "is what backend/cpu.yaml declares and can't be overridden; corr"),
        ("backend.device: cuda", "is what backend/cpu.yaml declares and can't be overridden; cor"),
        ("method.name: x", "is what method/lora.yaml declares and can't be overridden; correct i"),
    ],
)
def test_wrong_overrides(shipped: Groups, load: Load, override: str, expected: str) -> None:
    """Unknown keys, wrong types and attempts to change what is tested are told with the line."""
    with pytest.raises(BadInput) as caught:
        expand(load(f"overrides:\n  {override}"), shipped, ["cpu"])
    _, problem = str(caught.value).splitlines()
    key = override.partition(":")[0]
    assert problem.startswith(f"spec.yaml:4: overrides.{key}: ")
    assert expected in problem


@pytest.mark.parametrize("launcher", ["ddp", "fsdp"])
def test_one_process_is_no_group(shipped: Groups, load: Load, launcher: str) -> None:
    """It would average with nobody; two are a group."""
    text = f"matrix: {{launcher: [{launcher}]}}\noverrides: {{launcher.processes: %d}}"
    with pytest.raises(BadInput, match=f"1 process is no group, and {launcher} would have noth"):
        expand(load(text % 1), shipped, ["cpu"])
    (cell,), _ = expand(load(text % 3), shipped, ["cpu"])
    assert cell.overrides == {"launcher.processes": 3}


def test_a_key_must_fit_every_option(shipped: Groups, load: Load) -> None:
    """A key that one of the options lacks is told with that option's file."""
    text = "matrix: {method: [lora, full]}\noverrides: {method.implementation.rank: 4}"
    with pytest.raises(BadInput, match=r"rank: there is no such key in method/full\.yaml; "):
        expand(load(text), shipped, ["cpu"])


def test_an_override_may_be_the_default_of_one_option(shipped: Groups, load: Load) -> None:
    """What is an option's default is left out for that option alone."""
    text = "matrix: {optimizer: [adamw, sgd]}\noverrides: {train.learning_rate: 0.01}"
    with_adamw, with_sgd = expand(load(text), shipped, ["cpu"])[0]
    assert with_adamw.overrides == {}
    assert with_sgd.overrides == {"train.learning_rate": 0.01}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        ("${a}", 1.5),
        ("${b.${c}}", 7),
        ("x-${a}", "x-1.5"),
        ("${gone}", None),
        ("${oc.env:HOME}", None),
        ("${loop}", None),
    ],
)
def test_interpolated_defaults(value: int | str, expected: object) -> None:
    """The type of an interpolated default is that of what it leads to, if that can be told."""
    tree: dict[str, Value] = {"a": 1.5, "b": {"deep": 7}, "c": "deep", "loop": "${loop}"}
    assert resolved(value, tree) == expected
