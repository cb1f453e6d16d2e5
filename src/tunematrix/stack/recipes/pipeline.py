"""The steps of a pipeline, one after the other in one process; later ones read what earlier left.

`{tmp_path}` in their settings is the run's own folder, and the name of an earlier step the folder
that it wrote to. Tokens of the Hub are in the environment of the steps that name them alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
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
from tunematrix.stack.backends.common import Backend
from tunematrix.stack.steps.job import StepJob

STEPS = "tunematrix.stack.steps"
"""The package that has a module for each step that needs no engine."""
ROOMS: Mapping[str, str] = {
    "tunematrix.stack.engines.torch": STEPS,
    "tunematrix.stack.engines.mlx": "tunematrix.stack.steps.mlx",
}
"""Engine → the package that has a module for each step that it can take."""


def run(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Take all steps.

    Raises:
        WrongSetting: an entry of a step can't be used, or there is no such step on the backend;
            `StepProblem` is written before.
        ValueError: the backend's engine takes no steps.
    """
    if config.backend.engine not in ROOMS:
        message = f"backend {config.backend.name} takes no steps of a pipeline"
        raise ValueError(message)
    pipeline = config.steps or PipelineSteps()
    for name, step in pipeline.taken.items():
        _require(name, step, config, events)
    backend: Backend = instantiate(config.backend.implementation, _convert_="all")
    variables = {"tmp_path": str(output_dir)}
    secrets = {*TOKENS, *(v for step in pipeline.taken.values() for v in step.token_variables)}
    for name, given in pipeline.taken.items():
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
                _body(name, settings, config)(settings, job)
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


def _require(name: str, step: PipelineStep, config: Configuration, events: EventLog) -> None:
    """See that a backend can take a step, before one is taken.

    Raises:
        WrongSetting: it can't; `StepProblem` is written before.
    """
    if find_spec(_module(name, step, config)) is None:
        text = f"backend {config.backend.name} has no step {name}; leave it out, or take another"
        events.write(StepProblem(name, (), text))
        raise WrongSetting((), text)


def _with_values(settings: PipelineStep, variables: Mapping[str, str]) -> PipelineStep:
    try:
        values = filled(settings.model_dump(mode="json"), variables)
    except KeyError as error:
        name = str(error.args[0])
        text = f"{{{name}}} is no earlier step; {did_you_mean(name, variables)}"
        raise WrongSetting((), text) from None
    return type(settings).model_validate(values)


def _body(
    name: str, step: PipelineStep, config: Configuration
) -> Callable[[PipelineStep, StepJob], None]:
    module = import_module(_module(name, step, config))
    body: Callable[[PipelineStep, StepJob], None] = module.run
    return body


def _module(name: str, step: PipelineStep, config: Configuration) -> str:
    return f"{ROOMS[config.backend.engine] if step.computes else STEPS}.{name}"
