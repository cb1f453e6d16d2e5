"""Whatever a stack does to its numbers is a figure that a check judges: no meter raises over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx.utils import tree_map
from mlx_lm.tuner import trainer as mlx_trainer
from transformers import PreTrainedModel
from trl import SFTTrainer

from tunematrix.errors import MeterBroken
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.mlx import loading
from tunematrix.stack.engines.torch.meters import continuity, dtypes, labels, scale
from tunematrix.stack.engines.torch.methods import lora

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

Plant = Callable[[], AbstractContextManager[None]]
NAN, INFINITE = float("nan"), float("inf")


def loading_by_torch(change: Callable[[torch.nn.Module], Any]) -> Plant:
    """Change each model of transformers as it is loaded."""
    original = vars(PreTrainedModel)["from_pretrained"]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        model = original.__func__(cls, *args, **kwargs)
        with torch.no_grad():
            change(model)
        return model

    @contextmanager
    def plant() -> Iterator[None]:
        PreTrainedModel.from_pretrained = classmethod(load)
        try:
            yield
        finally:  # a class method that is looked up is bound already
            PreTrainedModel.from_pretrained = original

    return plant


def stepping(change: Callable[[Any, dict[str, Any]], Any]) -> Plant:
    """Change the model, or what it is given, before each of TRL's training steps."""

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, inputs: Any, *args: Any) -> Any:
            with torch.no_grad():
                changed = change(model, dict(inputs))
            return original(trainer, model, changed or inputs, *args)

        return step

    return lambda: replaced(SFTTrainer, "training_step", wrap)


def fill(model: torch.nn.Module, value: float) -> None:
    """Put a number into the first place of each parameter."""
    for parameter in model.parameters():
        parameter.view(-1)[0] = value


def second_adapter(original: Any) -> Any:
    """Attach another adapter to each layer, and let both train."""

    def attach(model: Any, config: Any, **named: Any) -> Any:
        adapted = original(model, config, **named)
        adapted.add_adapter("second", config)
        adapted.base_model.set_adapter(["default", "second"])
        return adapted

    return attach


def lowered(model: Any) -> None:
    """Let what trains follow bfloat16, as if it had been loaded so."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()


def first_columns(inputs: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Cut a batch's rows."""
    return {k: v[:, :count] if getattr(v, "ndim", 0) == 2 else v for k, v in inputs.items()}


TORCH: Mapping[str, tuple[Plant, str]] = {
    "nan loaded": (loading_by_torch(lambda m: fill(m, NAN)), "finite_loss"),
    "infinity loaded": (loading_by_torch(lambda m: fill(m, INFINITE)), "base_weights"),
    "bfloat16 loaded": (loading_by_torch(lambda m: m.bfloat16()), "base_products"),
    "float64 loaded": (loading_by_torch(lambda m: m.double()), "precision"),
    "nan in training": (stepping(lambda m, _: fill(m, NAN)), "finite_loss"),
    "bfloat16 in training": (stepping(lambda m, _: lowered(m)), "trained_dtypes"),
    "nothing counts": (
        stepping(lambda _, i: {**i, "labels": torch.full_like(i["labels"], -100)}),
        "labels",
    ),
    "two adapters": (lambda: replaced(lora, "get_peft_model", second_adapter), "trainable"),
    "one column": (stepping(lambda _, i: first_columns(i, 1)), "labels"),
}


@pytest.mark.each_time(4)
@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name: str, run_small: RunSmall) -> None:
    """The cell reaches its end, and the check whose matter it is fails."""
    plant, check = TORCH[name]
    with plant():
        assert check in run_small().failed


def loading_by_mlx(change: Callable[[Any], Any]) -> Plant:
    """Change each model of mlx-lm as it is loaded."""

    def wrap(original: Any) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            model, config = original(*args, **kwargs)
            change(model)
            return model, config

        return load

    return lambda: replaced(loading, "load_trusted", wrap)


def losing(factor: float) -> Plant:
    """Multiply each of mlx-lm's losses."""

    def wrap(original: Any) -> Any:
        def loss(*args: Any) -> Any:
            value, tokens = original(*args)
            return value * factor, tokens

        return loss

    return lambda: replaced(mlx_trainer, "default_loss", wrap)


def halved(model: Any) -> None:
    """Keep a model in bfloat16 whatever it is told."""
    model.set_dtype(mx.bfloat16)
    model.set_dtype = lambda *_: None


def poisoned(model: Any) -> None:
    """Put a nan into every parameter."""
    model.update(tree_map(lambda parameter: parameter * NAN, model.parameters()))


MLX: Mapping[str, tuple[Plant, str]] = {
    "nan loaded": (loading_by_mlx(poisoned), "finite_loss"),
    "bfloat16 loaded": (loading_by_mlx(halved), "precision"),
    "losses of nan": (losing(NAN), "finite_loss"),
}


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", MLX)
def test_mlx(name: str, run_small: RunSmall) -> None:
    """The same, of the other engine's meters."""
    plant, check = MLX[name]
    with plant():
        assert check in run_small(backend="mlx").failed


def raising(original: Any) -> Any:
    """Stand in for a method of a meter that has an error of its own."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        return np.linalg.svd(np.full((2, 2), NAN))

    return broken


@contextmanager
def broken_at(owner: Any, name: str) -> Iterator[None]:
    """Let a meter's own code raise, as a mistake in it would."""
    before = getattr(owner, name)
    with replaced(owner, name, raising):
        broken = getattr(owner, name)
        # The file says whose code it is.
        code = broken.__code__.replace(co_filename=before.__code__.co_filename)
        broken.__code__ = code
        yield


@pytest.mark.parametrize(
    ("owner", "name", "meter"),
    [
        (labels.TorchLabelAudit, "look", "torch labels"),
        (dtypes.DtypeMeter, "after", "torch dtypes"),
        (continuity.ContinuityMeter, "event", "torch continuity"),
        (scale, "measure", "torch scale"),
    ],
)
def test_a_meter_with_an_error_of_its_own(
    owner: Any, name: str, meter: str, run_small: RunSmall
) -> None:
    """It is named, wherever it sits: in a hook of the model or the optimizer, or after training."""
    told = rf"the meter {meter} of tunematrix raised LinAlgError: .*please report it"
    with broken_at(owner, name), pytest.raises(MeterBroken, match=told):
        run_small()


@pytest.mark.parametrize("cut", [{"input_ids": slice(0, 0)}, {}])
def test_what_the_stack_raises_stays_its_own(cut: dict[str, Any], run_small: RunSmall) -> None:
    """Also where a meter is the first to call what raises: rows that a model can't take."""

    def change(model: Any, inputs: dict[str, Any]) -> Any:
        if not cut:
            raise ZeroDivisionError("of the trainer's own")
        return {k: v[cut["input_ids"]] if torch.is_tensor(v) else v for k, v in inputs.items()}

    with stepping(change)(), pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
        run_small()
    assert not isinstance(caught.value, MeterBroken)
