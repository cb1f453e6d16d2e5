"""What the probe costs a training loop: steps with it and without it, in turn, in one process.

python -m tests.bench.watching

Beside whole steps of a model of 25 million parameters, which vary by some percent on any machine,
it measures what the probe itself adds to a step that isn't audited: on a model of as many tensors
and hardly any numbers, since it touches no weight and no gradient then. Memory is that of the
process at its highest, of which each step's is asked for; Linux alone tells.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
SHORT = 30
"""Steps of a round over a small model; in the second half of them none is audited."""
SHAPE = (2, 96)
EXACT = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "0"}
"""Has glibc give each tensor's memory back at once, so that the process has that of its tensors."""
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Costs:
    """Medians over rounds.

    Attributes:
        bare: seconds of processor time of a step without the probe.
        cheap: of a step that isn't audited, over that; audited: of one that is.
        own: seconds that the probe itself takes in one that isn't.
        gradient: bytes of the model's gradients; memory: bytes by which the highest memory of
            audited steps is above that of others.
    """

    bare: float
    cheap: float
    audited: float
    own: float
    gradient: int
    memory: int


def model_of(hidden: int, words: int) -> LlamaForCausalLM:
    """Return a model of 48 tensors."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=hidden * 43 // 16,
        num_hidden_layers=5,
        num_attention_heads=8,
    )
    return LlamaForCausalLM(config)


def measure() -> Costs:
    """Train a model of 25 million parameters for some rounds, with the probe in every other."""
    model = model_of(512, 8192)
    rows = torch.randint(0, 8192, SHAPE)
    list(_steps(model, rows, STEPS))
    cheap, audited, bare, highest = [], [], [], []
    for _ in range(ROUNDS):
        without = list(_steps(model, rows, STEPS))
        seen = _probed(lambda: list(_steps(model, rows, STEPS)))
        usual = statistics.median(seconds for seconds, _ in without)
        bare.append(usual)
        rest = [s for i, (s, _) in enumerate(seen) if i and i not in AUDITED]
        cheap.append(statistics.median(rest) / usual)
        audited.append(statistics.median(seen[i][0] for i in AUDITED) / usual)
        usually = max(memory for _, memory in without[1:])
        highest.append(max(seen[i][1] for i in AUDITED) - usually)
    return Costs(
        bare=statistics.median(bare),
        cheap=statistics.median(cheap),
        audited=statistics.median(audited),
        own=_own(),
        gradient=sum(p.numel() * p.element_size() for p in model.parameters()),
        memory=max(highest),
    )


def _own() -> float:
    """Return what a step of a model that computes next to nothing takes longer with the probe."""
    model, rows = model_of(16, 64), torch.randint(0, 64, SHAPE)
    without, seen = [], []
    for _ in range(2 * ROUNDS):
        without += [seconds for seconds, _ in _steps(model, rows, SHORT)][SHORT // 2 + 1 :]
        both = _probed(lambda: list(_steps(model, rows, SHORT)))
        seen += [seconds for seconds, _ in both][SHORT // 2 + 1 :]
    # What else runs on the machine only ever adds: the faster half is the better measure.
    return _faster(seen) - _faster(without)


def _faster(seconds: list[float]) -> float:
    return statistics.median(sorted(seconds)[: len(seconds) // 2])


def _probed(train: Callable[[], list[tuple[float, int]]]) -> list[tuple[float, int]]:
    with tempfile.TemporaryDirectory() as folder:
        tunematrix_probe.start(folder)
        try:
            return train()
        finally:
            tunematrix_probe.stop()


def _steps(model: LlamaForCausalLM, rows: torch.Tensor, count: int) -> Iterator[tuple[float, int]]:
    """Make steps, and yield of each its processor time and the highest memory meanwhile."""
    optimizer = AdamW(model.parameters(), lr=1e-4)
    for _ in range(count):
        _forget_highest()
        began = time.process_time()
        model(input_ids=rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield time.process_time() - began, _highest()


def _forget_highest() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _highest() -> int:
    """Return bytes; 0 where the system doesn't tell those of a while."""
    if sys.platform != "linux":
        return 0
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1])


def costs() -> Costs:
    """Measure in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.bench.watching"]
    env = {**os.environ, **EXACT}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
    return Costs(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(vars(measure())))
