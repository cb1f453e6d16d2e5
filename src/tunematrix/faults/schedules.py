"""Faults in the learning rate of each step."""

from __future__ import annotations

from itertools import islice
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import trainer

from tunematrix.faults.catalogue import fault

LINEAR = ("schedules[*-lora-linear]", "optimizers[*-full-adamw-linear]")
FLOOR = 0.1


@fault(
    "scheduler",
    replaces=(LambdaLR, "step"),
    seen_by=("schedules[*-lora-linear]", "schedules[*-lora-cosine]"),
)
def stepped_twice(original: Any, schedule: Any, *args: Any) -> None:
    """Step the schedule twice for each step, so that it ends halfway.

    Stands for schedules that a wrapper steps once for each process (huggingface/accelerate#2926,
    huggingface/transformers#24088).
    """
    first = schedule.last_epoch < 0
    original(schedule, *args)
    if not first:
        original(schedule, *args)


@fault("scheduler", replaces=(LambdaLR, "__init__"), seen_by=LINEAR)
def one_step_ahead(
    original: Any, schedule: Any, optimizer: Any, rate: Any, last_epoch: int = -1
) -> None:
    """Give each step the rate of the next one.

    Stands for loops that step the schedule before the optimizer
    (https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate).
    """
    original(schedule, optimizer, lambda step: rate(step + 1), last_epoch)


@fault(
    "scheduler",
    replaces=(trainer, "get_scheduler"),
    seen_by=("optimizers[*-full-adamw-linear]", "optimizers[*-full-adamw-cosine]"),
)
def warm_up_ignored(original: Any, name: Any, optimizer: Any, **settings: Any) -> Any:
    """Begin at the full rate, though it was to be warmed up to.

    Stands for warm-ups that are given in another unit, or under a name that has been given up
    (huggingface/peft#2949: warmup_ratio).
    """
    # With none, the constant schedule would be another function.
    shortened = {**settings, "num_warmup_steps": min(1, settings["num_warmup_steps"])}
    return original(name, optimizer, **shortened)


@fault("scheduler", replaces=(trainer, "get_scheduler"), seen_by=LINEAR)
def steps_counted_from_the_data(original: Any, name: Any, optimizer: Any, **settings: Any) -> Any:
    """Let the schedule end a quarter later than training, where the data would have ended.

    Stands for totals that are counted in batches, rows or epochs, and not in the steps asked for
    (huggingface/accelerate#2142).
    """
    total = settings["num_training_steps"]
    return original(name, optimizer, **{**settings, "num_training_steps": total * 5 // 4})


@fault(
    "scheduler",
    replaces=(LambdaLR, "__init__"),
    seen_by=("schedules[*-lora-cosine]", "optimizers[*-full-adamw-cosine]"),
)
def never_below_a_tenth(
    original: Any, schedule: Any, optimizer: Any, rate: Any, last_epoch: int = -1
) -> None:
    """Let the rate never fall below a tenth of its peak: only the last steps show it.

    Stands for a floor that a library's own cosine has, and transformers' has not.
    """

    def floored(step: int) -> float:
        return max(FLOOR, float(rate(step))) if step else float(rate(step))

    original(schedule, optimizer, floored, last_epoch)


@fault(
    "scheduler",
    replaces=(LambdaLR, "step"),
    seen_by=("optimizers[*-full-adamw-linear]", "optimizers[*-full-sgd-linear]"),
)
def second_group_unscheduled(original: Any, schedule: Any, *args: Any) -> None:
    """Leave the rate of the second group, that of norms and biases, where it began.

    Stands for schedules that know one rate, and loops that set it in the first group alone.
    """
    original(schedule, *args)
    peaks = zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True)
    for group, peak in islice(peaks, 1, None):
        group["lr"] = peak
