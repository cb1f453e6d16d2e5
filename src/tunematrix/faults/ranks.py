"""Faults in what several processes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accelerate.data_loader import BatchSamplerShard
from torch.nn.parallel import DistributedDataParallel

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import ranks


@fault("distribution", seen_by=("distributed[*-ddp-lora-unequal]",))
def gradients_not_averaged(config: Mapping[str, Any]) -> Iterator[None]:
    """Let each process step by its own gradients, as a forgotten no_sync would.

    Each of them logs the averaged loss, and that falls.
    """

    def wrap(original: Any) -> Any:
        def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
            with model.no_sync():
                return original(model, *args, **kwargs)

        return forward

    with replaced(DistributedDataParallel, "forward", wrap):
        yield


@fault("distribution", seen_by=("distributed[*-ddp-lora-unequal]",))
def rows_not_shared_out(config: Mapping[str, Any]) -> Iterator[None]:
    """Give every process all batches: the work of several, and the result of one."""

    def wrap(original: Any) -> Any:
        def init(sampler: Any, batches: Any, **settings: Any) -> None:
            original(sampler, batches, **{**settings, "num_processes": 1, "process_index": 0})

        return init

    with replaced(BatchSamplerShard, "__init__", wrap):
        yield


@fault("distribution", seen_by=("distributed[*-fsdp-lora-unequal]",))
def nothing_sharded(config: Mapping[str, Any]) -> Iterator[None]:
    """Train whole copies instead of shares, as accelerate does on a CPU that is told fsdp."""
    with replaced(ranks, "sharded", lambda _: lambda model: model):
        yield
