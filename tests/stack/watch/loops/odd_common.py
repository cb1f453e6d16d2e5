"""What the loops of unusual kinds have in common: how they begin, a small network, and its data."""

import sys
from pathlib import Path

import torch
from torch import nn

OUT, WAY = Path(sys.argv[2]), sys.argv[3]
STEPS = 10


def network(dropout=0.1):
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 4))


def data(count=32):
    x = torch.randn(count, 8)
    return x, x[:, :4].argmax(1)


def run(ways):
    """Run the way that the command line names, out of a script's functions."""
    torch.manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    ways[WAY]()
    print("done", WAY, torch.rand(()).item())
