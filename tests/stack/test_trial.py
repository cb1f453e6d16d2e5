"""What doctor finds out in a process of its own, as far as it can be seen on any machine."""

from __future__ import annotations

import pytest

from tunematrix.stack.backends.common import SIDE
from tunematrix.stack.backends.cuda import why_not
from tunematrix.stack.trial import problem_with

OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update"


@pytest.mark.parametrize(
    ("listed", "built_for", "said", "reason", "fix"),
    [
        ("", "13.0", "Found no NVIDIA driver", "there is no NVIDIA GPU", "run it where"),
        ("", None, "Torch not compiled", "there is no NVIDIA GPU", "run it where"),
        ("H200", None, "Torch not compiled", "H200 is there, and torch 2.13.0+cpu was built",
         "--index-url https://pypi.org/simple torch==2.13.0"),
        ("H200", "13.0", OLD, f"torch 2.13.0+cpu (CUDA 13.0) can't use it: {OLD}",
         "update NVIDIA's driver"),
        ("H200", "13.0", "No CUDA GPUs are available", "can't use it: No", "CUDA_VISIBLE_DEVICES"),
        ("H200", "13.0", "unknown error", "can't use it: unknown error", "nvidia-smi"),
    ],
)  # fmt: skip
def test_a_missing_gpu_is_told_from_one_that_torch_cannot_use(
    listed: str, built_for: str | None, said: str, reason: str, fix: str
) -> None:
    """No GPU, a build without CUDA, an old driver, a hidden GPU and a fault each have a way out."""
    told = why_not(listed, "2.13.0+cpu", built_for, said)
    assert reason in told[0]
    assert fix in told[1]


def test_products_that_are_refused_or_wrong() -> None:
    """Both are found; a right one is no problem."""

    def refuse(dtype: str) -> float:
        raise RuntimeError(f"no kernel for {dtype}\nmore")

    assert problem_with(refuse, "float16") == "RuntimeError: no kernel for float16"
    assert problem_with(lambda _: 1.0, "float16") == f"the product sums to 1 instead of {SIDE**3}"
    assert problem_with(lambda _: float(SIDE**3), "float16") == ""
