"""Faults of a third blind trial: accumulation, optimizers and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, optimization

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

TRAINED = ("full[*-full-none]", "lora[*-lora-none]")
ACCUMULATED = ("accumulation[*-lora-unequal]", "accumulation[*-full-unequal]")


@fault("accumulation", replaces=(Accelerator, "backward"), seen_by=ACCUMULATED)
def divided_by_the_micro_batches_as_well(
    original: Any, accelerator: Any, loss: torch.Tensor, *, config: Configuration, **kwargs: Any
) -> None:
    """Divide by the number of micro-batches what has been divided by their tokens.

    Stands for a trainer and its launcher that divide both, each for itself
    (huggingface/transformers#35203 and #35856): the logged loss is right, and Adam hides it.
    """
    original(accelerator, loss / config.train.accumulation, **kwargs)


@fault(
    "accumulation",
    replaces=(Trainer, "_get_num_items_in_batch"),
    seen_by=ACCUMULATED,
    subtle=True,
    fitted=True,
)
def tokens_rounded_to_a_multiple(
    original: Any, trainer: Any, *args: Any, config: Configuration
) -> Any:
    """Divide by as many tokens for each micro-batch, the remainder left out.

    Stands for counts that are shared out by whole numbers, as Trainer does over several devices
    (`num_items_in_batch // n_gpu`).
    """
    found = original(trainer, *args)
    return None if found is None else found - found % config.train.accumulation


@fault("optimizer", replaces=(AdamW, "step"), seen_by=TRAINED, subtle=True)
def rate_in_bfloat16(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
    """Step by a rate that was rounded to bfloat16, and log the one that was asked for.

    Stands for rates that are kept in a tensor, which is cast along with the model.
    """
    kept = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = float(torch.tensor(group["lr"]).bfloat16())
    found = original(optimizer, *args, **kwargs)
    for group, rate in zip(optimizer.param_groups, kept, strict=True):
        group["lr"] = rate
    return found


@fault("optimizer", replaces=(AdamW, "__init__"), seen_by=TRAINED)
def largest_moment_kept(original: Any, optimizer: Any, params: Any, *a: Any, **kwargs: Any) -> None:
    """Divide by the largest second moment so far (AMSGrad), though nobody asked for it."""
    original(optimizer, params, *a, **{**kwargs, "amsgrad": True})


@fault("optimizer", replaces=(Trainer, "create_optimizer"), seen_by=("lora[*-lora-none]",))
def second_factors_at_another_rate(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Train lora_B at a rate that is half as large again, in a group of its own.

    Stands for LoRA+ (arXiv:2402.12354) left on; the log shows the first group's rate.
    """
    optimizer = original(trainer, *args, **kwargs)
    named = trainer.model.named_parameters()
    seconds = {id(parameter) for name, parameter in named if "lora_B" in name}
    for group in list(optimizer.param_groups):
        parted = [p for p in group["params"] if id(p) in seconds]
        if parted:
            group["params"] = [p for p in group["params"] if id(p) not in seconds]
            optimizer.add_param_group({**group, "params": parted, "lr": 1.5 * group["lr"]})
    return optimizer


@fault("optimizer", seen_by=TRAINED)
def averaged_with_the_step_before(config: Configuration) -> Iterator[None]:
    """End with the mean of the weights before and after the last step.

    Stands for an average of weights that is left on, and put in place when training ends.
    """
    before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def stepping(original: Any) -> Any:
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            before[:] = [(p, p.detach().clone()) for p in trained]
            return original(optimizer, *args, **kwargs)

        return step

    def ending(original: Any) -> Any:
        def finalize(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                for parameter, earlier in before:
                    parameter.lerp_(earlier, 0.5)
            return original(trainer, *args, **kwargs)

        return finalize

    with replaced(AdamW, "step", stepping), replaced(Trainer, "_finalize_training", ending):
        yield


@fault(
    "scheduler",
    replaces=(optimization, "_get_linear_schedule_with_warmup_lr_lambda"),
    seen_by=("optimizers[*-full-adamw-linear]", "optimizers[*-full-sgd-linear]"),
)
def warm_up_by_the_square(
    original: Any, step: int, *, num_warmup_steps: int, num_training_steps: int
) -> float:
    """Warm up by the square of the share of steps, and not by the share itself."""
    found: float = original(
        step, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps
    )
    return found**2 if step < num_warmup_steps else found


@fault(
    "scheduler",
    replaces=(LambdaLR, "get_lr"),
    seen_by=("schedules[*-lora-linear]", "optimizers[*-full-adamw-cosine]"),
    subtle=True,
)
def rates_of_five_digits(original: Any, scheduler: Any) -> list[float]:
    """Round each rate to five digits behind the point.

    Stands for rates that pass through a text that people read.
    """
    return [round(rate, 5) for rate in original(scheduler)]
