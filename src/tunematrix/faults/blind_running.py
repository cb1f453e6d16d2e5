"""Blind faults around training: resuming, evaluating, logging, memory and the process."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, set_seed
from trl import SFTTrainer

from tunematrix.faults.catalogue import fault

RESUMED = ("same-resumed-lora[*]", "same-resumed-full[*-full-fp32]")


@fault("resume", replaces=(LambdaLR, "load_state_dict"), seen_by=RESUMED)
def schedule_a_step_behind(original: Any, scheduler: Any, state: dict[str, Any]) -> None:
    """Resume a schedule one step before the one that was saved."""
    original(scheduler, {**state, "last_epoch": state["last_epoch"] - 1})


@fault("resume", replaces=(Optimizer, "load_state_dict"), seen_by=RESUMED, subtle=True)
def moments_restored_in_bfloat16(original: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Round first moments to bfloat16 as they are loaded."""
    kept = {
        number: {
            name: value.bfloat16().to(value.dtype) if name == "exp_avg" else value
            for name, value in one.items()
        }
        for number, one in state["state"].items()
    }
    original(optimizer, {**state, "state": kept})


@fault("resume", replaces=(Trainer, "_load_rng_state"), seen_by=RESUMED, subtle=True)
def a_number_drawn_after_resuming(original: Any, trainer: Any, checkpoint: Any) -> None:
    """Draw one number more than an uninterrupted run once generators are restored."""
    original(trainer, checkpoint)
    torch.rand(1)


@fault(
    "logging",
    replaces=(Trainer, "_clip_grad_norm"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
)
def norm_logged_after_clipping(original: Any, trainer: Any, model: Any) -> torch.Tensor:
    """Log the norm that is left of a gradient."""
    found: torch.Tensor = original(trainer, model)
    return found.clamp(max=trainer.args.max_grad_norm)


@fault(
    "logging",
    replaces=(Trainer, "_maybe_log_save_evaluate"),
    seen_by=("schedules[*-lora-linear]", "schedules[*-lora-cosine]"),
    fitted=True,
)
def next_rate_logged(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Log the rate of the next step beside the loss of this one."""
    original(trainer, *args, **{**kwargs, "learning_rate": None})


@fault(
    "logging",
    replaces=(Trainer, "_get_eval_sampler"),
    seen_by=("same-evaluation[*]", "same-evaluation-dropout[*]"),
)
def last_row_not_evaluated(original: Any, trainer: Any, rows: Any) -> Any:
    """Leave the last row out of evaluations."""
    return SequentialSampler(range(len(rows) - 1))


@fault(
    "memory",
    replaces=(PreTrainedModel, "_set_gradient_checkpointing"),
    seen_by=("checkpointing[*-lora-none]", "checkpointing[*-full-none]"),
)
def every_other_layer_checkpointed(original: Any, model: Any, *args: Any, **kwargs: Any) -> None:
    """Keep the activations of every other layer where all were to be computed again."""
    original(model, *args, **{**kwargs, "every_n_layers": 2})


@fault("memory", replaces=(AcceleratedOptimizer, "__init__"), seen_by=("memory[*]",))
def copy_of_all_that_is_trained(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
    """Keep a float32 copy of parameters that are in float32 already."""
    original(optimizer, *args, **kwargs)
    groups = optimizer.optimizer.param_groups
    optimizer.masters = [p.detach().float().clone() for group in groups for p in group["params"]]


@fault(
    "memory",
    replaces=(SFTTrainer, "compute_loss"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "memory[*-lora]"),
)
def each_batch_computed_twice(
    original: Any, trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any
) -> Any:
    """Compute each batch a second time, for figures that nobody reads."""
    with torch.no_grad():
        model(**{name: value for name, value in inputs.items() if name != "labels"})
    return original(trainer, model, inputs, *args, **kwargs)


@fault("process", replaces=(Trainer, "training_step"), seen_by=("dropout[*-lora]",))
def seeded_anew_at_each_step(
    original: Any, trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any
) -> Any:
    """Seed all generators again before each batch, so that each drops out the same."""
    set_seed(trainer.args.seed)
    return original(trainer, model, inputs, *args, **kwargs)
