"""PyTorch's process-wide switches."""

from __future__ import annotations

import torch

from tunematrix.stack.yardsticks.switches import of_the_process


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
        "seed": torch.initial_seed(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled(),
        "threads between operators": torch.get_num_interop_threads(),
        "fill of uninitialized memory": torch.utils.deterministic.fill_uninitialized_memory,
        "mkldnn": torch.backends.mkldnn.enabled,
        **of_the_process(),
    }
    return {name: str(value) for name, value in switches.items()}
