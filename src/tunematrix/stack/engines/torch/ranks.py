"""One model on several processes: copies that average their gradients, or shards of one (FSDP2).

Where there is one process, everything here leaves things as they are.
"""

from __future__ import annotations

import copy

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tunematrix.evidence.events import Rank
from tunematrix.stack.engines.torch.meters import parameters
from tunematrix.stack.engines.torch.meters.batches import BatchMeter
from tunematrix.stack.engines.torch.meters.coverage import CoverageMeter
from tunematrix.stack.engines.torch.shards import own, whole
from tunematrix.stack.releases import decoder_layers, sharding


def are_many() -> bool:
    """Return whether this process is one of a group, of whatever size."""
    return distributed.is_initialized()


def number() -> int:
    """Return this process's place among all."""
    return distributed.get_rank() if are_many() else 0


def count() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if are_many() else 1


def total(figure: float, device: str) -> float:
    """Return the sum of every process's figure."""
    if not are_many():
        return figure
    summed = torch.tensor(figure, dtype=torch.float64, device=device)
    distributed.all_reduce(summed)
    return float(summed)


def sharded(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters are spread over all processes, a decoder layer at a time."""
    copied: nn.Module = copy.deepcopy(model)
    for layer in decoder_layers(copied):
        sharding().fully_shard(layer)
    sharding().fully_shard(copied)
    return copied


def gather(trained: nn.Module, model: nn.Module) -> None:
    """Copy the trained parameters of a sharded copy back into its original."""
    if trained is model:
        return
    pairs = zip(trained.named_parameters(), model.named_parameters(), strict=True)
    for (name, shards), (other, parameter) in pairs:
        assert name == other, f"{name} became {other}"
        with torch.no_grad():
            parameter.copy_(whole(shards))


def averaging(model: nn.Module) -> nn.Module:
    """Return what makes every process step by the mean of all gradients."""
    if not are_many() or isinstance(model, sharding().FSDPModule):
        return model
    return DistributedDataParallel(model)


def count_kept(model: nn.Module) -> int:
    """Count the elements of trained parameters that this process keeps."""
    return sum(own(p).numel() for p in model.parameters() if p.requires_grad)


def report(
    model: nn.Module, kept: int, batches: BatchMeter, coverage: CoverageMeter | None
) -> Rank:
    """Say what this process did; `model` is whole again, and `kept` is what it held."""
    rows = None if coverage is None else coverage.event(count())
    return Rank(
        rank=number(),
        processes=count(),
        collectives=str(distributed.get_backend()),
        rows=batches.rows,
        first_rows=tuple(batches.first_rows),
        parameters=parameters.digest(model),
        held=kept,
        whole=count_kept(model),
        uneven=0 if rows is None else rows.uneven,
        strayed=None if rows is None else rows.strayed,
    )
