"""The helpers for users: what docs/testing.md shows works, and each helper says no when it must."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunematrix.errors import BadInput, ExitCode
from tunematrix.stack.toyworld import architectures
from tunematrix.testing import tiny_dataset, tiny_model, tiny_tokenizer, track_memory
from tunematrix.testing.backends import lacking

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
MEGABYTE = 1_000_000
GPUS = ("cuda", "mps")
"""No machine has both."""
ON_A_GPU = """
from tunematrix.testing import requires_backend

@requires_backend("{name}")
def test_on_a_gpu():
    raise AssertionError("ran")
"""


RunTests = Callable[..., "subprocess.CompletedProcess[str]"]
"""Takes a test module's text and options of pytest."""


@pytest.fixture
def run_tests(tmp_path: Path) -> RunTests:
    """Run tests of a project of their own, in a process with the installed plugin."""
    settings = '[tool.pytest.ini_options]\naddopts = ["--strict-markers"]\n'
    (tmp_path / "pyproject.toml").write_text(settings)

    def run(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_own.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
        )

    return run


@pytest.mark.nightly
def test_the_page_shows_what_works(run_tests: RunTests) -> None:
    """Its example passes, and what needs a GPU is unavailable where there is none."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ended = run_tests(example)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"2 passed|1 passed.*1 unavailable", ended.stdout)


def test_a_missing_backend_is_no_success(run_tests: RunTests) -> None:
    """Alone it leaves nothing tested, and the reason is told."""
    name = next(name for name in GPUS if lacking(name))
    ended = run_tests(ON_A_GPU.format(name=name))
    assert ended.returncode == ExitCode.NOTHING_TESTED
    reason = f"test_on_a_gpu: backend {name} is unavailable: "
    assert f"UNAVAILABLE test_own.py::{reason}" in ended.stdout


@pytest.mark.nightly
def test_a_missing_backend_that_is_required(run_tests: RunTests) -> None:
    """It fails, and the reason is told."""
    name = next(name for name in GPUS if lacking(name))
    required = run_tests(ON_A_GPU.format(name=name), f"--require={name}")
    assert required.returncode == ExitCode.FAILED
    assert f"backend {name} is unavailable: " in required.stdout


def test_peaks_before_their_time() -> None:
    """A bound that is asked for inside the stretch doesn't hold, whatever it is."""
    with track_memory() as memory:
        assert memory.allocator_peak is not None
        assert not memory.allocator_peak < math.inf
        assert not memory.process_peak < math.inf
    assert memory.allocator_peak < math.inf
    assert memory.process_peak < math.inf


def test_memory_that_is_given_back_counts() -> None:
    """50 MB that live for a moment are in the allocator's peak, and little else is."""
    with track_memory() as memory:
        torch.ones(50 * MEGABYTE // 4).sum().item()
        torch.ones(10)
    assert memory.allocator_peak == pytest.approx(50 * MEGABYTE, rel=0.01)


def test_the_processes_peak() -> None:
    """So they are in the process's, without the allocator."""
    with track_memory(allocator=False) as memory:
        torch.ones(50 * MEGABYTE // 4).sum().item()
    assert memory.process_peak == pytest.approx(50 * MEGABYTE, rel=0.1)
    assert memory.allocator_peak is None


@pytest.mark.parametrize("name", ["llama", "qwen", "gpt2"])
def test_a_tiny_model_takes_the_tiny_tokenizers_ids(name: str, tmp_path: Path) -> None:
    """Model, tokenizer and data fit each other."""
    (row,) = tiny_dataset("text", rows=1)
    ids = tiny_tokenizer()(row["text"], return_tensors="pt")["input_ids"]
    logits = tiny_model(name, cache_dir=tmp_path)(input_ids=ids).logits
    assert logits.shape[:2] == ids.shape and logits.isfinite().all()


def test_a_model_that_is_none(tmp_path: Path) -> None:
    """The names that there are stand in the text."""
    with pytest.raises(BadInput, match=architectures.NAMES[0]):
        tiny_model("lama", cache_dir=tmp_path)
