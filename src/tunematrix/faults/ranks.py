"""Faults in what several processes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.fsdp._fully_shard import _fsdp_collectives
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import Trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import ranks

EXCESS = 1.01


@fault(
    "distribution",
    replaces=(DistributedDataParallel, "forward"),
    seen_by=("distributed[*-ddp-lora-unequal]",),
    fitted=True,
)
def gradients_not_averaged(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Let each process step by its own gradients, as a forgotten no_sync would.

    Each of them logs the averaged loss, and that falls.
    """
    with model.no_sync():
        return original(model, *args, **kwargs)


@fault(
    "distribution",
    replaces=(BatchSamplerShard, "__init__"),
    seen_by=("distributed[*-ddp-lora-unequal]",),
    fitted=True,
)
def rows_not_shared_out(original: Any, sampler: Any, batches: Any, **settings: Any) -> None:
    """Give every process all batches: the work of several, and the result of one."""
    original(sampler, batches, **{**settings, "num_processes": 1, "process_index": 0})


@fault(
    "distribution",
    replaces=(ranks, "sharded"),
    seen_by=("distributed[*-fsdp-lora-unequal]",),
    fitted=True,
)
def nothing_sharded(_original: Any, model: Any) -> Any:
    """Train whole copies instead of shares, as accelerate does on a CPU that is told fsdp."""
    return model


@fault(
    "distribution",
    replaces=(DistributedDataParallel, "__init__"),
    seen_by=("distributed[*-ddp-lora-unequal]",),
)
def one_tensor_not_averaged(
    original: Any, parallel: Any, module: Any, *args: Any, **kwargs: Any
) -> None:
    """Leave the last trained tensor out of the average.

    Stands for parameters that are named to be ignored, or unfrozen once the model is wrapped.
    """
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    module._ddp_params_and_buffers_to_ignore = trained[-1:]
    original(parallel, module, *args, **kwargs)


@fault("distribution", seen_by=("same-distributed[*-lora]", "distributed[*-ddp-lora-unequal]"))
def sums_for_means(config: Configuration) -> Iterator[None]:
    """Add gradients up instead of averaging them; Adam and clipping hide how long they are.

    Stands for hooks that leave the division to somebody else.
    """

    # Without annotations, which are read as the hook is registered.
    hook = lambda _, bucket: (  # noqa: E731
        distributed.all_reduce(bucket.buffer(), async_op=True)
        .get_future()
        .then(lambda done: done.value()[0])
    )

    with replaced(DistributedDataParallel, "__init__", _hooked(hook)):
        yield


@fault(
    "distribution",
    seen_by=("same-distributed[*-lora]", "distributed[*-ddp-lora-unequal]"),
    subtle=True,
)
def averaged_in_half_precision(config: Configuration) -> Iterator[None]:
    """Send gradients to the other processes in bfloat16.

    Stands for compression that a configuration switches on for the sake of the network.
    """

    compress = lambda _, bucket: (  # noqa: E731
        default_hooks.bf16_compress_hook(distributed.group.WORLD, bucket)
    )
    with replaced(DistributedDataParallel, "__init__", _hooked(compress)):
        yield


@fault(
    "distribution",
    replaces=(Trainer, "_get_num_items_in_batch"),
    seen_by=("same-distributed[*-lora]", "distributed[*-ddp-lora-unequal]"),
)
def tokens_counted_apart(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Let each process divide by its own tokens, and average the means.

    Stands for huggingface/transformers#34242: with rows of unequal length, a mean of means.
    """
    with replaced(trainer.accelerator, "gather", _alone(trainer.args.world_size)):
        return original(trainer, *args, **kwargs)


@fault(
    "distribution",
    replaces=(DistributedDataParallel, "__init__"),
    seen_by=("distributed[*-ddp-lora-unequal]",),
    subtle=True,
)
def one_rank_starts_elsewhere(
    original: Any, parallel: Any, module: Any, *args: Any, **kwargs: Any
) -> None:
    """Let the second process begin with a tensor that is 1 % larger, and tell nobody.

    Stands for models that are initialised under a seed of each process, and not sent around.
    """
    original(parallel, module, *args, **kwargs)
    if distributed.get_rank() == 1:
        trained = next(p for p in module.parameters() if p.requires_grad)
        with torch.no_grad():
            trained.mul_(EXCESS)


@fault(
    "distribution",
    replaces=(_fsdp_collectives.DefaultReduceScatter, "__call__"),
    seen_by=("distributed[*-fsdp-lora-unequal]", "same-distributed[*-lora]"),
)
def shards_added_up(original: Any, communicate: Any, **given: Any) -> Any:
    """Add the gradients of shards up instead of averaging them.

    Stands for divisors that a trainer sets to 1 because it scales its loss, and then doesn't.
    """
    given["input_tensor"].mul_(given["group"].size())
    return original(communicate, **given)


@fault("distribution", seen_by=("distributed[*-fsdp-lora-unequal]", "same-distributed[*-lora]"))
def one_rank_without_its_first_step(config: Configuration) -> Iterator[None]:
    """Blank the second process's gradients before its first optimizer step.

    Stands for ranks that find an overflow alone, and skip what the others do. Shards can't be
    compared with each other, as copies can.
    """
    steps = count()

    def before(optimizer: Any, *_: object) -> None:
        if distributed.get_rank() == 1 and next(steps) == 0:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad.to_local().zero_()

    if int(os.environ.get("RANK", "0")) and config.launcher.shards:
        handle = register_optimizer_step_pre_hook(before)
        try:
            yield
        finally:
            handle.remove()
    else:
        yield


def _hooked(hook: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what lets parallel models average by `hook`."""

    def wrap(original: Any) -> Any:
        def init(parallel: Any, module: Any, *args: Any, **kwargs: Any) -> None:
            original(parallel, module, *args, **kwargs)
            parallel.register_comm_hook(None, hook)

        return init

    return wrap


def _alone(processes: int) -> Callable[[Any], Any]:
    """Return a gather that finds nobody else: what is summed up gives one process's share.

    The trainer multiplies its loss by the number of processes, as for a share of all tokens.
    """
    return lambda _: lambda tensor: tensor.reshape(-1).repeat(processes)
