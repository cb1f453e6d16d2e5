"""Faults of what is around training: processes, memory, logs, and what was asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, Trainer
from transformers.modeling_layers import GradientCheckpointingLayer

from tunematrix.faults.catalogue import fault


@fault(
    "distribution",
    replaces=(DistributedDataParallel, "__init__"),
    seen_by=("distributed[*-ddp-lora-unequal]", "same-distributed[*-lora]"),
    subtle=True,
)
def gradients_sent_in_half(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """Round gradients to bfloat16 before they are averaged, to send half as much."""
    original(self, *args, **kwargs)

    def send(group: Any, bucket: Any) -> Any:
        gradients = bucket.buffer()
        gradients.copy_(gradients.bfloat16())
        return default_hooks.allreduce_hook(group, bucket)

    send.__annotations__.clear()  # which PyTorch would read, and take for none of its own
    self.register_comm_hook(None, send)


@fault(
    "distribution",
    replaces=(DistributedDataParallel, "__init__"),
    seen_by=("distributed[*-ddp-full-unequal]", "same-distributed[*-full]"),
)
def last_bucket_is_not_averaged(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """Leave the gradients of the last of several buckets as each process has them."""
    original(self, *args, **kwargs)

    def send(group: Any, bucket: Any) -> Any:
        if bucket.is_last() and bucket.index():
            kept: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            kept.set_result(bucket.buffer())
            return kept
        return default_hooks.allreduce_hook(group, bucket)

    send.__annotations__.clear()  # which PyTorch would read, and take for none of its own
    self.register_comm_hook(None, send)


@fault(
    "memory",
    replaces=(PreTrainedModel, "_set_gradient_checkpointing"),
    seen_by=("checkpointing[*-full-none]", "checkpointing[*-lora-none]"),
)
def last_layer_is_not_recomputed(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """Keep all activations of the last layer, though every layer was to compute them again."""
    original(self, *args, **kwargs)
    *_, last = [one for one in self.modules() if isinstance(one, GradientCheckpointingLayer)]
    last.gradient_checkpointing = False


@fault(
    "logging",
    replaces=(Trainer, "log"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def losses_logged_with_two_decimals(
    original: Any, self: Any, logs: dict[str, Any], *args: Any, **kwargs: Any
) -> None:
    """Round the losses of the log to two decimals."""
    if "loss" in logs:
        logs["loss"] = round(logs["loss"], 2)
    original(self, logs, *args, **kwargs)


@fault(
    "logging",
    replaces=(Trainer, "_maybe_log_save_evaluate"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
)
def norm_of_the_step_before_is_logged(
    original: Any, self: Any, tr_loss: Any, grad_norm: Any, *args: Any, **kwargs: Any
) -> None:
    """Log the gradient's norm a step late, as if a device was asked for it and not waited for."""
    late = vars(self).get("_norm_of_the_step_before", grad_norm)
    vars(self)["_norm_of_the_step_before"] = grad_norm
    original(self, tr_loss, late, *args, **kwargs)
