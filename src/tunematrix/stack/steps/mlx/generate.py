"""The step `generate` on MLX: prompts are answered through mlx-lm."""

from __future__ import annotations

from tunematrix.configuration.answers import GenerateStep
from tunematrix.stack.steps import generate
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.mlx.answering import LIBRARY


def run(settings: GenerateStep, job: StepJob) -> None:
    """Answer all prompts; see `generate.answer`.

    Raises:
        WrongSetting, StepFailed, MachineProblem: see there.
    """
    if threads := settings.generation.threads:
        job.warn(f"threads={threads} isn't heeded: MLX takes no number of threads")
    generate.answer(settings, job, LIBRARY)
