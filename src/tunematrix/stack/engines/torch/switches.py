"""PyTorch's process-wide switches."""

from __future__ import annotations

import os

import torch


def read() -> dict[str, str]:
    """Return name to value of what changes PyTorch's figures wherever it is set."""
    backends = torch.backends.cuda
    switches = {
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "flash attention": backends.flash_sdp_enabled(),
        "memory-efficient attention": backends.mem_efficient_sdp_enabled(),
        "plain attention": backends.math_sdp_enabled(),
        "reduced sums in bfloat16": backends.matmul.allow_bf16_reduced_precision_reduction,
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    return {name: str(value) for name, value in switches.items()}
