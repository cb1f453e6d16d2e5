"""PyTorch on one NVIDIA GPU: what else determines its figures, and why it can't be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tunematrix.stack.backends.accelerator import Accelerator
from tunematrix.stack.backends.common import Unusable, first_line

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Cuda(Accelerator):
    """The first GPU that this process may see."""

    def __init__(self) -> None:
        super().__init__("cuda")

    def begin(self, seed: int, threads: int) -> dict[str, Any]:
        """Claim one GPU and seed everything; return what now determines the figures.

        Raises:
            Unusable: PyTorch can't compute on it; the text says why.
        """
        # Trainer would spread one process over all that it sees, with another batch size.
        os.environ[VISIBLE] = os.environ.get(VISIBLE, "0").split(",")[0]
        determinants = super().begin(seed, threads)
        properties = torch.cuda.get_device_properties(0)
        return {
            **determinants,
            "gpu": properties.name,
            "gpu_memory_mb": properties.total_memory // 1_000_000,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }

    def facts(self) -> dict[str, Any]:
        """Name the GPU, its memory, its driver and the CUDA that torch was built for."""
        properties = torch.cuda.get_device_properties(0)
        driver = first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        return {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "driver": driver,
            "runtime": f"CUDA {torch.version.cuda}",
        }

    def _claim(self) -> None:
        """Initialise CUDA before anything else does, so that PyTorch's own words are heard."""
        try:
            torch.cuda.init()
            super()._claim()
        except Unusable:
            raise
        except (AssertionError, RuntimeError) as error:
            said, listed = str(error).strip().partition("\n")[0], listed_gpu()
            reason, fix = why_not(listed, torch.__version__, torch.version.cuda, said)
            wanted = "an NVIDIA GPU that torch can compute on"
            raise Unusable(reason, present=bool(listed), fix=fix, wanted=wanted) from error


def claim(cache_dir: str) -> None:
    """Compute once on the GPU, before any cell waits for it; raises what `Cuda.begin` raises."""
    Cuda().begin(seed=0, threads=1)


def why_not(listed: str, version: str, built_for: str | None, said: str) -> tuple[str, str]:
    """Tell a missing GPU from one that PyTorch can't use; return the reason and what to do.

    Args:
        listed: the GPU that the driver lists; empty where there is none.
        version: of torch. built_for: the CUDA that it was built for, None for none.
        said: what it says on being initialised.
    """
    if not listed:
        wanted = "run it where `nvidia-smi -L` lists one; a container needs --gpus all"
        return "there is no NVIDIA GPU: nvidia-smi lists none", wanted
    if built_for is None:
        reason = f"{listed} is there, and torch {version} was built without CUDA"
        release = version.partition("+")[0]
        index = "--index-url https://pypi.org/simple"
        return reason, f"python -m pip install --force-reinstall {index} torch=={release}"
    reason = f"{listed} is there, and torch {version} (CUDA {built_for}) can't use it: {said}"
    if "too old" in said:
        older = "or install a torch for an older CUDA: https://pytorch.org/get-started/locally"
        return reason, f"update NVIDIA's driver, {older}"
    if "No CUDA GPUs" in said:
        return reason, f"unset {VISIBLE}, or name in it a GPU that nvidia-smi lists"
    return reason, "see whether `nvidia-smi` and `dmesg` report a fault of the GPU or its driver"


def listed_gpu() -> str:
    """Return the name of the first GPU that the driver knows, whatever PyTorch makes of it."""
    if name := first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        return name
    # A container may have the device without the tool; the second is WSL's.
    nodes = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
    return "an NVIDIA GPU" if any(node.exists() for node in nodes) else ""
