"""Specs of a trainer's command → the same, with all that the trainer decides for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.configuration.trainer import DYNAMIC, CommandSettings, Trainer
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.matrix.cells import Cell
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Problem, refuse

LAUNCHER = "launcher"
NEVER = "no"
"""The save strategy under which nothing is saved."""
_EXAMPLE = '[tool.tunematrix.trainers.NAME] with command = ["{python}", "train.py", …]'


def completed(
    specs: Sequence[Spec], trainers: Mapping[str, Trainer], root: Path
) -> tuple[Spec, ...]:
    """Return specs whose trainer is found, and whose launcher is its own where they name none.

    Raises:
        BadInput: a spec names no trainer, or doesn't fit its template; the text lists all of it.
    """
    mine = [spec for spec in specs if spec.runs_command]
    refuse(problem for spec in mine for problem in _problems(spec, trainers, root))
    return tuple(_completed(spec, trainers) if spec.runs_command else spec for spec in specs)


def refuse_unseeded(cells: Iterable[Cell], trainers: Mapping[str, Trainer]) -> None:
    """See that every command among some cells is told its seed.

    Raises:
        BadInput: one isn't, so that under several seeds it would be the same run several times.
    """
    specs = dict.fromkeys(cell.spec for cell in cells if cell.spec.runs_command)
    refuse(problem for spec in specs for problem in _seed_problems(spec, trainers))


def trainer_of(spec: Spec, trainers: Mapping[str, Trainer]) -> str:
    """Return the name of a spec's trainer: the one that it names, or the only one.

    Raises:
        KeyError: there is none of that name, or none to choose.
    """
    if spec.trainer is not None:
        return spec.trainer if spec.trainer in trainers else _none(spec.trainer)
    if len(trainers) != 1:
        return _none("")
    (only,) = trainers
    return only


def settings_of(
    cell: Cell, config: Configuration, trainers: Mapping[str, Trainer], root: Path
) -> Configuration:
    """Return a cell's configuration with the command that it is.

    Raises:
        BadInput: its trainer isn't configured.
    """
    spec = cell.spec
    try:
        name = trainer_of(spec, trainers)
    except KeyError:
        raise BadInput(f"{spec.where()}: {cell.id}: has no trainer; add {_EXAMPLE}") from None
    arguments = dict(spec.dynamic_args)
    for key, value in cell.overrides.items():
        section, _, argument = key.partition(".")
        if section == "dynamic_args" and not isinstance(value, tuple):
            arguments[argument] = value
    command = CommandSettings(
        trainer=name,
        template=trainers[name],
        root=str(root),
        project_dir=str((root / (spec.project_dir or ".")).resolve()),
        config=spec.config or "",
        inference=spec.inference,
        finalize=spec.finalize,
    )
    update = {"command": command, "dynamic_args": arguments, "watch": spec.watch}
    return config.model_copy(update=update)


def _completed(spec: Spec, trainers: Mapping[str, Trainer]) -> Spec:
    name = trainer_of(spec, trainers)
    update: dict[str, object] = {"trainer": name}
    if LAUNCHER not in spec.matrix.axes and LAUNCHER not in spec.overrides:
        update["overrides"] = {**spec.overrides, LAUNCHER: trainers[name].launcher}
    return spec.model_copy(update=update)


def _problems(spec: Spec, trainers: Mapping[str, Trainer], root: Path) -> Iterator[Problem]:
    try:
        name = trainer_of(spec, trainers)
    except KeyError:
        yield _no_trainer(spec, trainers)
        return
    trainer = trainers[name]
    folder = root / (spec.project_dir or ".")
    if not folder.is_dir():
        text = f"there is no folder {spec.project_dir} in {root}; give a path relative to it"
        yield spec.problem(("project_dir",), text)
    yield from _template_problems(spec, name, trainer)
    if spec.inference is not None:
        yield from _inference_problems(spec, name, trainer)


def _no_trainer(spec: Spec, trainers: Mapping[str, Trainer]) -> Problem:
    if not trainers:
        text = f"is run by a trainer, and pyproject.toml has none; add {_EXAMPLE}"
        return spec.problem(("trainer",) if spec.trainer else ("project_dir",), text)
    if spec.trainer is None:
        text = f"the project has several trainers; add trainer: {' or '.join(trainers)}"
        return spec.problem((), text)
    advice = did_you_mean(spec.trainer, trainers)
    return spec.problem(("trainer",), f"{spec.trainer} is no trainer in pyproject.toml; {advice}")


def _template_problems(spec: Spec, name: str, trainer: Trainer) -> Iterator[Problem]:
    """Yield what the spec gives and the template has no place for, and the other way round."""
    where = f"the command of trainer {name} (pyproject.toml)"
    if spec.config is not None and "config" not in trainer.places:
        text = f"would be ignored, since {where} has no {{config}}; add it, or remove this"
        yield spec.problem(("config",), text)
    if spec.config is None and "config" in trainer.places:
        yield spec.problem(("config",), f"is missing; {where} has a {{config}} to fill in")
    given = [*spec.dynamic_args, *_dynamic_overrides(spec)]
    if given and DYNAMIC not in trainer.command:
        text = f"would be ignored, since {where} has no {DYNAMIC}; add it, or remove this"
        yield spec.problem(("dynamic_args",), text)
    if spec.finalize is not None and not trainer.finalize:
        text = f"trainer {name} has no command for it; add `finalize = [...]` in pyproject.toml"
        yield spec.problem(("finalize",), text)


def _seed_problems(spec: Spec, trainers: Mapping[str, Trainer]) -> Iterator[Problem]:
    name = trainer_of(spec, trainers)
    if "seed" not in trainers[name].places:
        text = (
            f"--seeds would be the same run several times, since the command of trainer {name} "
            "(pyproject.toml) takes no seed; add {seed} to it, or to a variable in its environment"
        )
        yield spec.problem(("trainer",), text)


def _inference_problems(spec: Spec, name: str, trainer: Trainer) -> Iterator[Problem]:
    strategy = spec.dynamic_args.get("save_strategy")
    if strategy in (NEVER, False):
        text = "nothing is saved, and inference needs a checkpoint; set it to steps"
        yield spec.problem(("dynamic_args", "save_strategy"), text)


def _dynamic_overrides(spec: Spec) -> Iterable[str]:
    arms = spec.relation.arms.values() if spec.relation else ()
    keys = (key for each in (spec.overrides, *arms) for key in each)
    return (key for key in keys if key.startswith("dynamic_args."))


def _none(name: str) -> str:
    raise KeyError(name)
