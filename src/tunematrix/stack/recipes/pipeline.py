"""The steps of a pipeline, one after the other in one process; later ones read what earlier left.

`{tmp_path}` in their settings is the run's own folder, and the name of an earlier step the folder
that it wrote to. Tokens of the Hub are in the environment of the steps that name them alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from hydra.utils import instantiate

from tunematrix.configuration import Configuration
from tunematrix.configuration.download import TOKENS
from tunematrix.configuration.section import PipelineStep
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.configuration.variables import filled
from tunematrix.errors import WrongSetting, did_you_mean
from tunematrix.evidence.events import Determinants, StepProblem
from tunematrix.evidence.log import EventLog
from tunematrix.stack.backends.common import TorchBackend
from tunematrix.stack.steps.job import StepJob

ENGINE = "tunematrix.stack.engines.torch"


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Take all steps.

    Raises:
        WrongSetting: an entry of a step can't be used; `StepProblem` is written before.
        ValueError: the backend isn't one of PyTorch.
    """
    if config.backend.engine != ENGINE:
        message = f"its steps train through TRL, and backend {config.backend.name} has none"
        raise ValueError(message)
    backend: TorchBackend = instantiate(config.backend.implementation)
    variables = {"tmp_path": str(output_dir)}
    pipeline = config.steps or PipelineSteps()
    secrets = {*TOKENS, *(v for _, step in _named(pipeline) for v in step.token_variables)}
    for name, given in _named(pipeline):
        try:
            settings = _with_values(given, variables)
            own, folders = settings.own, settings.folders(name, output_dir)
            folder = next(iter(folders.values()))
            if settings.computes:
                if not pipeline.dry_run:
                    folder.mkdir(parents=True, exist_ok=True)
                threads = getattr(own, "threads", 0) or os.cpu_count() or 1
                events.write(Determinants(backend.begin(getattr(own, "seed", 0), threads)))
            job = StepJob(name, config, events, folder, pipeline.resume, pipeline.dry_run)
            with events.phase(name), _without(secrets.difference(settings.token_variables)):
                _body(name)(settings, job)
        except WrongSetting as error:
            events.write(StepProblem(name, error.route, str(error)))
            raise
        variables |= {name: str(folder) for name, folder in folders.items()}


@contextmanager
def _without(variables: Iterable[str]) -> Iterator[None]:
    """Keep variables of the environment from a step, and from all that it starts."""
    kept = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _named(pipeline: PipelineSteps) -> Iterator[tuple[str, PipelineStep]]:
    for name in PipelineSteps.model_fields:
        if isinstance(settings := getattr(pipeline, name), PipelineStep):
            yield name, settings


def _with_values(settings: PipelineStep, variables: Mapping[str, str]) -> PipelineStep:
    try:
        values = filled(settings.model_dump(mode="json"), variables)
    except KeyError as error:
        name = str(error.args[0])
        text = f"{{{name}}} is no earlier step; {did_you_mean(name, variables)}"
        raise WrongSetting((), text) from None
    return type(settings).model_validate(values)


def _body(name: str) -> Callable[[PipelineStep, StepJob], None]:
    body: Callable[[PipelineStep, StepJob], None] = import_module(
        f"tunematrix.stack.steps.{name}"
    ).run
    return body
