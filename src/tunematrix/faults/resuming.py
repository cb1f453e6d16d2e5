"""Faults in what a checkpoint brings back, and in what an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

LEFT = 1e-4


@fault("resume")
def moments_not_restored(config: Mapping[str, Any]) -> Iterator[None]:
    """Resume with fresh moments, under the schedule's right rates.

    Stands for checkpoints whose state has no match among the parameters, and is left out.
    """

    def wrap(original: Any) -> Any:
        return lambda optimizer, state: original(optimizer, {**state, "state": {}})

    with replaced(torch.optim.Optimizer, "load_state_dict", wrap):
        yield


@fault("resume", seen_by=("same-resumed-lora[*]",))
def random_state_not_restored(config: Mapping[str, Any]) -> Iterator[None]:
    """Resume with whatever the random generators hold: other dropout masks are drawn.

    Stands for checkpoints that keep no generators, or whose file has another name.
    """
    with replaced(Trainer, "_load_rng_state", _nothing):
        yield


@fault("checkpoint", seen_by=("same-resumed-lora[*]",))
def adapter_tensor_not_saved(config: Mapping[str, Any]) -> Iterator[None]:
    """Leave one of the adapter's tensors out of each of Trainer's checkpoints.

    Stands for wrappers and tied tensors that a state dict drops, or saves by another name.
    """

    def wrap(original: Any) -> Any:
        def save(trainer: Any, output_dir: Any = None, state_dict: Any = None) -> None:
            original(trainer, output_dir, state_dict)
            path = Path(output_dir or trainer.args.output_dir) / "adapter_model.safetensors"
            tensors = load_file(path)
            tensors.pop(sorted(tensors)[-1])
            save_file(tensors, path, metadata={"format": "pt"})

        return save

    with replaced(Trainer, "_save", wrap):
        yield


@fault("gradients", seen_by=("same-evaluation[*]",))
def evaluation_leaves_gradients(config: Mapping[str, Any]) -> Iterator[None]:
    """Let each evaluation leave gradients behind, to which the next step adds its own.

    Stands for evaluations that are not run apart from autograd, and metrics that train.
    """

    def wrap(original: Any) -> Any:
        def evaluate(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            metrics = original(trainer, *args, **kwargs)
            for parameter in trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.full_like(parameter, LEFT)
            return metrics

        return evaluate

    with replaced(Trainer, "evaluate", wrap):
        yield


def _nothing(original: Any) -> Any:
    return lambda *args, **kwargs: None
