"""Faults planted in honest evidence: a process, its device, its settings and what it needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunematrix.evidence.events import (
    Compute,
    Device,
    Draws,
    Held,
    Memory,
    MicroBatch,
    Storage,
    Switches,
    Throughput,
)

if TYPE_CHECKING:
    from tests.unit.checks.planted.table import Table

PLANTED: Table = {
    "exit": (
        lambda run: run.ending(code=None, signal="SIGKILL"),
        "SIGKILL",
        "exit code 0, at the end",
        "memory ran out",
    ),
    "left_behind": (
        lambda run: run.ending(leftovers=("python serve.py",)),
        1,
        "0",
        "python serve.py; likely a server",
    ),
    "stderr": (
        lambda run: run.leaving(stderr="a\nCUDA out of memory\n"),
        1,
        "0",
        "CUDA out of memory",
    ),
    "device": (
        lambda run: run.recording(Device({"cpu": 48}, ("cpu", "cuda"))),
        "cpu, cuda",
        "cpu",
        "a fallback",
    ),
    "precision": (
        lambda run: run.edited(Compute, products=("bfloat16", "float32")),
        "bfloat16, float32",
        "float32",
        "mixed precision was ignored or leaks",
    ),
    "attention_kernel": (
        lambda run: run.edited(Compute, attention=(1, 2)),
        1,
        ">= 2",
        "1 of 2 layers computed attention in a kernel; the others multiplied and took a softmax",
    ),
    "switches": (
        lambda run: run.edited(Switches, changed={"threads": (0, "2")}),
        1,
        "0",
        "threads was 1, and 2 after step 0; a library sets it for the whole process, and all that",
    ),
    "seed": (
        lambda run: run.edited(Draws, seed=42),
        42,
        "0",
        "training began with seed 42; a library's default",
    ),
    "gradient_checkpointing": (
        lambda run: run.edited(MicroBatch, layer_calls=(2,)),
        "1, 2",
        "1",
        "layers ran 1, 2 times per micro-batch, not 1; checkpointing was ignored",
    ),
    "computed_once": (
        lambda run: run.edited(MicroBatch, 3, beside=1),
        1,
        "0",
        "beside 8 passes of training there were 1 in training mode without a gradient",
    ),
    "activations": (
        lambda run: run.edited(MicroBatch, 0, stale=3),
        3,
        "0",
        "in 8 passes 0 of the decoder layers' inputs were kept though they are computed again",
    ),
    "expected_files": (
        lambda run: run.leaving(files=("model/README.md",)),
        0,
        "1",
        "not made by this run: model/adapter_config.json; it made model/README.md; likely saving",
    ),
    "held": (
        lambda run: run.edited(Held, 2, beside=318_088 + 2 * 10 * 64),
        1.0,
        "<= 0.2",
        "after training 0.3 MB are held beside the model and its gradients, 100% of what the base",
    ),
    "memory_stored": (
        lambda run: run.edited(Storage, total_bytes=1_444_480),
        1.44448,
        "0.2 to 0.4",
        "1.4 MB; likely another dtype",
    ),
    "memory_allocator_peak": (
        lambda run: run.edited(Memory, 1, bytes=412_000_000),
        412.0,
        "<= 120",
        "412.0 MB; likely another dtype",
    ),
    "memory_process_peak": (
        lambda run: run.edited(Memory, 0, bytes=364_000_000),
        364.0,
        "<= 80",
        "364.0 MB; likely another dtype",
    ),
    "throughput": (
        lambda run: run.edited(Throughput, seconds=40.0),
        500.0,
        ">= 1000",
        "training took in 500.0 tokens a second; likely a slower device",
    ),
}
