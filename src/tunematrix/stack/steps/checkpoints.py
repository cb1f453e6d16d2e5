"""The checkpoint that a training step goes on from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tunematrix.stack.steps.job import Job


def chosen(job: Job, model: nn.Module, max_steps: int) -> Path | None:
    """Return the checkpoint that was asked for; None to begin."""
    return None
