"""Faults in what a checkpoint brings back, and in what an evaluation leaves behind."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer
from transformers import trainer as trainer_module

from tunematrix.faults.catalogue import fault

LEFT = 1e-4


@fault("resume", replaces=(torch.optim.Optimizer, "load_state_dict"), fitted=True)
def moments_not_restored(original: Any, optimizer: Any, state: Any) -> Any:
    """Resume with fresh moments, under the schedule's right rates.

    Stands for checkpoints whose state has no match among the parameters, and is left out.
    """
    return original(optimizer, {**state, "state": {}})


@fault(
    "resume", replaces=(Trainer, "_load_rng_state"), seen_by=("same-resumed-lora[*]",), fitted=True
)
def random_state_not_restored(_original: Any, *_: Any, **__: Any) -> None:
    """Resume with whatever the random generators hold: other dropout masks are drawn.

    Stands for checkpoints that keep no generators, or whose file has another name.
    """


@fault("checkpoint", replaces=(Trainer, "_save"), seen_by=("same-resumed-lora[*]",), fitted=True)
def adapter_tensor_not_saved(
    original: Any, trainer: Any, output_dir: Any = None, state_dict: Any = None
) -> None:
    """Leave one of the adapter's tensors out of each of Trainer's checkpoints.

    Stands for wrappers and tied tensors that a state dict drops, or saves by another name.
    """
    original(trainer, output_dir, state_dict)
    path = Path(output_dir or trainer.args.output_dir) / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, path, metadata={"format": "pt"})


@fault("gradients", replaces=(Trainer, "evaluate"), seen_by=("same-evaluation[*]",), fitted=True)
def evaluation_leaves_gradients(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Let each evaluation leave gradients behind, to which the next step adds its own.

    Stands for evaluations that are not run apart from autograd, and metrics that train.
    """
    metrics = original(trainer, *args, **kwargs)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, LEFT)
    return metrics


@fault("resume", replaces=(torch.optim.Optimizer, "load_state_dict"))
def moments_of_other_tensors(original: Any, optimizer: Any, saved: Any) -> None:
    """Resume with the moments of two tensors of one shape the wrong way round.

    Stands for states that are matched by their order and not by names (pytorch/pytorch#1489).
    """
    state = dict(saved["state"])
    shapes = {key: kept["exp_avg"].shape for key, kept in state.items()}
    alike = [pair for pair in combinations(state, 2) if len({shapes[k] for k in pair}) == 1]
    # An optimizer that is moved to its device loads a state that is still empty.
    for first, other in alike[:1]:
        state[first], state[other] = state[other], state[first]
    original(optimizer, {**saved, "state": state})


@fault("resume", replaces=(torch.optim.Optimizer, "load_state_dict"))
def steps_of_adam_forgotten(original: Any, optimizer: Any, saved: Any) -> None:
    """Resume with the moments, and without the number of steps that corrects their bias.

    Stands for counters that are kept in another place than the state, or on another device.
    """
    state = {
        key: {**kept, "step": torch.zeros_like(kept["step"])}
        for key, kept in saved["state"].items()
    }
    original(optimizer, {**saved, "state": state})


@fault("resume", replaces=(torch.optim.Optimizer, "load_state_dict"), subtle=True)
def moments_in_half_precision(original: Any, optimizer: Any, saved: Any) -> None:
    """Resume with moments that were rounded to bfloat16.

    Stands for states that take the dtype of a parameter as they are loaded.
    """
    original(optimizer, saved)
    for kept in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            kept[name].copy_(kept[name].bfloat16())


@fault("resume", replaces=(torch.optim.lr_scheduler.LambdaLR, "load_state_dict"))
def schedule_begins_anew(_original: Any, *_: Any, **__: Any) -> None:
    """Resume under the rates of the first steps, warm-up included.

    Stands for schedules whose state isn't saved, or is loaded before they are made.
    """


@fault("resume", replaces=(trainer_module, "skip_first_batches"))
def rows_from_the_beginning(_original: Any, batches: Any, *_: Any) -> Any:
    """Resume with the rows that training began with.

    Stands for data that isn't skipped, as with ignore_data_skip.
    """
    return batches


@fault("resume", replaces=(trainer_module, "skip_first_batches"))
def one_batch_too_many_skipped(original: Any, batches: Any, skipped: Any) -> Any:
    """Resume one batch after the one that comes next.

    Stands for loaders that fetch ahead, and count what they have fetched as trained on.
    """
    return original(batches, skipped + 1)
