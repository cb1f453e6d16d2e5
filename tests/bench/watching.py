"""What the probe costs a training loop: steps with it and without it, in turn, in one process.

python -m tests.bench.watching
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM

from tunematrix.probe import tunematrix_probe

ROUNDS = 4
STEPS = 7
"""Of a round: 0, 1 and 3 are audited; the first one also finds the model."""
AUDITED = (1, 3)
SHAPE = (2, 96)


@dataclass(frozen=True)
class Costs:
    """Medians over rounds.

    Attributes:
        bare: seconds of processor time of a step without the probe.
        cheap: of a step that isn't audited, over that; audited: of one that is.
    """

    bare: float
    cheap: float
    audited: float


def measure() -> Costs:
    """Train a model of 25 million parameters for some rounds, with the probe in every other."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=5,
        num_attention_heads=8,
    )
    model = LlamaForCausalLM(config)
    optimizer = AdamW(model.parameters(), lr=1e-4)
    rows = torch.randint(0, config.vocab_size, SHAPE)
    list(_steps(model, optimizer, rows))
    cheap, audited, bare = [], [], []
    for _ in range(ROUNDS):
        without = list(_steps(model, optimizer, rows))
        with tempfile.TemporaryDirectory() as folder:
            tunematrix_probe.start(folder)
            seen = list(_steps(model, AdamW(model.parameters(), lr=1e-4), rows))
            tunematrix_probe.stop()
        usual = statistics.median(without)
        bare.append(usual)
        rest = [t for i, t in enumerate(seen) if i and i not in AUDITED]
        cheap.append(statistics.median(rest) / usual)
        audited.append(statistics.median(seen[i] for i in AUDITED) / usual)
    return Costs(*(statistics.median(figures) for figures in (bare, cheap, audited)))


def _steps(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, rows: torch.Tensor
) -> Iterator[float]:
    """Make the steps of a round, and yield the seconds of processor time of each."""
    for _ in range(STEPS):
        began = time.process_time()
        model(input_ids=rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield time.process_time() - began


def costs() -> Costs:
    """Measure in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.bench.watching"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return Costs(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(vars(measure())))
