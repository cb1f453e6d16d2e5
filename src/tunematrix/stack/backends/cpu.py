"""PyTorch on the CPU: threads, seeds, dtypes and the allocator's peak."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import set_seed

from tunematrix.stack.backends.common import SIDE, Peak, host


class Cpu:
    """One process on the CPU, with as many threads as the cell asks for."""

    device = "cpu"
    allocator_method = "torch profiler, CPU allocation events, separate pass"

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Seed everything and fix the threads; return what now determines the figures."""
        # A library that takes the first GPU it sees would train elsewhere than was asked for.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
        set_seed(seed)
        return {
            "seed": seed,
            "threads": torch.get_num_threads(),
            "device": self.device,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        }

    def facts(self) -> dict[str, Any]:
        """Name the processor and its memory."""
        return host()

    def multiply(self, dtype: str) -> float:
        """Multiply two squares of ones with sides of `SIDE`; return the sum of the product."""
        square = torch.ones(SIDE, SIDE, dtype=getattr(torch, dtype))
        return float((square @ square).float().sum().item())

    def trainer_settings(self) -> dict[str, Any]:
        """Return arguments that keep transformers' Trainer off any GPU there may be."""
        return {"use_cpu": True}

    def synchronize(self) -> None:
        """Return at once: nothing is queued on a CPU."""

    @contextmanager
    def tracked(self) -> Iterator[Peak]:
        """Follow the allocator meanwhile; what it yields has the peak once that is over."""
        peak = Peak()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield peak
        assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        level = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            level += event.nbytes()
            peak.bytes = max(peak.bytes, level)
