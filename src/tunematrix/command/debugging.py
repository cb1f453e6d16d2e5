"""Debug mode: specs of commands → environments + configurations, each run once and lightly.

A configuration is run once in its trainer's default launcher; each of the trainer's launchers is
run once, with its first configuration. That is a sum, not a product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunematrix.command.specs import LAUNCHER, trainer_of
from tunematrix.configuration.trainer import DebugArgument, Trainer
from tunematrix.errors import NothingTested, did_you_mean, nearest
from tunematrix.spec.bounds import LossBounds
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Problem, Route, refuse

ENVIRONMENT, CONFIG = "environment", "config"
"""The markers of the two kinds of cells in debug mode."""
_BOUNDS = (
    "gap_closed", "memory", "throughput", "expected_files", "known_failures", "inference",
    "finalize",
)  # fmt: skip
"""Fields of a spec that bound what a whole run comes to, and say nothing of two steps."""


@dataclass(frozen=True)
class DebugSpecs:
    """What debug mode runs.

    Attributes:
        environments: a spec for each trainer, whose matrix is the trainer's launchers.
        configs: a spec for each configuration.
    """

    environments: tuple[Spec, ...]
    configs: tuple[Spec, ...]

    @property
    def specs(self) -> tuple[Spec, ...]:
        """All of them; environments first."""
        return (*self.environments, *self.configs)


def debug_specs(specs: Sequence[Spec], trainers: Mapping[str, Trainer]) -> DebugSpecs:
    """Return what debug mode runs of some specs whose trainers have been found.

    Raises:
        BadInput: a spec gives an argument or an override that debug mode doesn't allow; the text
            names all of them.
        NothingTested: none of the specs is a trainer's command.
    """
    mine = [spec for spec in specs if spec.runs_command and spec.relation is None]
    if not mine:
        text = "debug mode runs the configurations of trainers, and no spec here names one"
        raise NothingTested(f"{text}; add a spec with recipe: command (docs/trainers.md)")
    refuse(problem for spec in mine for problem in _problems(spec, trainers))
    by_config = {(trainer_of(s, trainers), s.project_dir, s.config): s for s in reversed(mine)}
    firsts = [by_config[key] for key in reversed(by_config)]
    by_trainer = {trainer_of(spec, trainers): spec for spec in reversed(firsts)}
    return DebugSpecs(
        tuple(_environments(by_trainer[n], trainers[n]) for n in reversed(by_trainer)),
        tuple(_light(spec, trainers[trainer_of(spec, trainers)]) for spec in firsts),
    )


def _light(spec: Spec, trainer: Trainer) -> Spec:
    """Return a spec with the arguments of debug mode, in its trainer's default launcher."""
    plain = {name: type(spec).model_fields[name].get_default() for name in _BOUNDS}
    plain["expected_files"] = ()
    return spec.model_copy(
        update={
            **plain,
            "matrix": Matrix(),
            "overrides": {LAUNCHER: trainer.launcher},
            "dynamic_args": {**spec.dynamic_args, **_values(trainer)},
            "loss": LossBounds(no_nan=spec.loss.no_nan, falls=False),
            "min_steps_logged": min(1, spec.min_steps_logged),
            "markers": tuple(dict.fromkeys((*spec.markers, CONFIG))),
        }
    )


def _environments(spec: Spec, trainer: Trainer) -> Spec:
    light = _light(spec, trainer)
    markers = tuple(name for name in light.markers if name != CONFIG)
    return light.model_copy(
        update={
            "test_id": f"{spec.test_id}-launched",
            "matrix": Matrix.of({LAUNCHER: trainer.launchers or (trainer.launcher,)}),
            "overrides": {},
            "markers": (*markers, ENVIRONMENT),
        }
    )


def _values(trainer: Trainer) -> dict[str, bool | int | float | str]:
    return {name: argument.value for name, argument in trainer.debug.items()}


def _problems(spec: Spec, trainers: Mapping[str, Trainer]) -> Iterator[Problem]:
    """Yield what a spec sets beyond the allow-list of its trainer, by name."""
    name = trainer_of(spec, trainers)
    allowed = trainers[name].debug
    for argument, value in spec.dynamic_args.items():
        route: Route = ("dynamic_args", argument)
        if argument not in allowed:
            is_near = bool(nearest(argument, allowed))
            advice = f"{did_you_mean(argument, allowed)} If not, " if is_near else ""
            text = (
                f"{argument} is not on the allow-list of debug mode "
                f"([tool.tunematrix.trainers.{name}.debug] in pyproject.toml), so it may alter "
                f"what is tested; {advice}add it there if it can't"
            )
            yield spec.problem(route, text)
        elif text := _raises(allowed[argument], value):
            yield spec.problem(route, text)
    for key in spec.overrides:
        if key != LAUNCHER and not key.startswith(f"{LAUNCHER}."):
            text = f"{key} may alter what is tested, and debug mode refuses it; remove it"
            yield spec.problem(("overrides", key), text)


def _raises(allowed: DebugArgument, value: object) -> str:
    """Say that debug mode would lengthen a run; nothing where it shortens it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if allowed.changes not in ("steps", "epochs", "rows") or not is_number:
        return ""
    assert isinstance(value, int | float) and isinstance(allowed.value, int | float)
    if allowed.value <= value or value <= 0:
        return ""
    return f"is {value:g}, fewer than debug mode's {allowed.value:g} {allowed.changes}; lower that"
