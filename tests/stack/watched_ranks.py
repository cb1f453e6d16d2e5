"""Trains twice in each of two processes, without the probe and with it, and compares."""

from __future__ import annotations

import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tunematrix.probe import tunematrix_probe


def trained() -> list[float]:
    """Train a few steps over two processes, and return losses, weights and the next draw."""
    torch.manual_seed(0)
    rows = torch.Generator().manual_seed(distributed.get_rank())
    model = nn.Sequential(nn.Embedding(30, 8), nn.Dropout(0.1), nn.Linear(8, 30))
    spread = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(spread.parameters(), lr=1e-2)
    losses = []
    for _ in range(4):
        ids = torch.randint(0, 30, (4, 9), generator=rows)
        loss = nn.functional.cross_entropy(spread(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(spread.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    weights = [float(p.double().sum()) for p in model.parameters()]
    return [*losses, *weights, torch.rand(1).item()]


def main() -> None:
    """Say on the standard output whether both came out the same."""
    distributed.init_process_group("gloo")
    without = trained()
    tunematrix_probe.start(sys.argv[1])
    with_probe = trained()
    tunematrix_probe.stop()
    print("same" if with_probe == without else f"{without} {with_probe}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
