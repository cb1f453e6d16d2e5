"""Faults in what training says of itself, while it does as it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from accelerate import Accelerator
from transformers import Trainer, trainer
from transformers.trainer_callback import CallbackHandler

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

KEPT = 0.5
"""Of the loss before, in a smoothed one."""
LOST = 4
"""One line of so many."""


@fault("logging", seen_by=("lora[*-lora-none]", "full[*-full-none]", "same-as-custom-lora[*-none]"))
def loss_of_the_step_before(config: Configuration) -> Iterator[None]:
    """Log the loss of the step before; the first step has none but its own.

    Stands for losses that are fetched a step late, so that nothing has to wait for the device.
    """
    before: list[float] = []

    def shift(loss: float) -> float:
        before.append(loss)
        return before[max(len(before) - 2, 0)]

    with _logged(shift):
        yield


@fault("logging", seen_by=("lora[*-lora-none]", "full[*-full-none]", "same-as-custom-lora[*-none]"))
def loss_smoothed(config: Configuration) -> Iterator[None]:
    """Log a moving average, where the loss of each step was asked for.

    Stands for running means that are logged under the name of what they are a mean of.
    """
    means: list[float] = []

    def smooth(loss: float) -> float:
        means.append(KEPT * means[-1] + (1 - KEPT) * loss if means else loss)
        return means[-1]

    with _logged(smooth):
        yield


@fault(
    "logging",
    replaces=(Trainer, "log"),
    seen_by=("accumulation[*-lora-unequal]", "single-rows[*-lora]"),
)
def loss_divided_once_more(
    original: Any,
    trainer: Any,
    logs: dict[str, float],
    *args: Any,
    config: Configuration,
    **kwargs: Any,
) -> None:
    """Divide the logged loss by the number of micro-batches, which it has been divided by already.

    Stands for BottleCapAI/NoCap-Test#2, and for huggingface/transformers#35204 the other way round.
    """
    if "loss" in logs:
        logs["loss"] /= config.train.accumulation
    original(trainer, logs, *args, **kwargs)


@fault("logging", replaces=(Accelerator, "clip_grad_norm_"))
def norm_logged_after_clipping(
    original: Any, accelerator: Any, parameters: Any, limit: float, *more: Any
) -> Any:
    """Log the gradient's norm as clipping left it: never above the limit, so never a warning.

    Stands for norms that are taken at another place than their name says (radixark/miles#2132).
    """
    return original(accelerator, list(parameters), limit, *more).clamp(max=limit)


@fault(
    "logging",
    replaces=(trainer, "nested_gather"),
    seen_by=("distributed[*-ddp-lora-unequal]", "distributed[*-ddp-full-unequal]"),
)
def loss_of_the_first_process(_original: Any, tensors: Any, *_: Any, **__: Any) -> Any:
    """Log the first process's share of the loss alone.

    Stands for huggingface/transformers#13681 and snowflakedb/ArcticTraining#62.
    """
    return tensors


@fault(
    "logging",
    replaces=(Trainer, "get_eval_dataloader"),
    seen_by=("same-evaluation[*]",),
    fitted=True,
)
def evaluated_on_one_row(original: Any, trainer: Any, dataset: Any = None) -> Any:
    """Evaluate the first held-out row alone, and log its loss as that of all.

    Stands for evaluations that end after their first batch, or that take a mean of what is left
    over (huggingface/transformers#39241, huggingface/transformers#41898).
    """
    return original(trainer, (dataset or trainer.eval_dataset).select([0]))


@fault("logging", replaces=(CallbackHandler, "on_log"), fitted=True)
def steps_counted_from_zero(
    original: Any, handler: Any, arguments: Any, state: Any, *more: Any
) -> Any:
    """Log each line under the number of the step before.

    Stands for AUTOMATIC1111/stable-diffusion-webui#3847.
    """
    state.global_step -= 1
    try:
        return original(handler, arguments, state, *more)
    finally:
        state.global_step += 1


@fault("logging", replaces=(CallbackHandler, "on_log"))
def every_fourth_line_lost(
    original: Any, handler: Any, arguments: Any, state: Any, control: Any, *more: Any, call: int
) -> Any:
    """Lose each fourth line on its way to those who asked for them.

    Stands for buffers that nobody empties at the end, and readers that take lines for doubles.
    """
    if call % LOST:
        return original(handler, arguments, state, control, *more)
    return control


def _logged(change: Callable[[float], float]) -> AbstractContextManager[None]:
    """Let `change` have the loss of each line that Trainer logs."""

    def wrap(original: Any) -> Any:
        def log(trainer: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                logs["loss"] = change(logs["loss"])
            original(trainer, logs, *args, **kwargs)

        return log

    return replaced(Trainer, "log", wrap)
