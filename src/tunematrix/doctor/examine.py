"""A project and this machine → the diagnosis: what can be built, what computes, what quantizes."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import packages_distributions, version
from itertools import groupby

from tunematrix.doctor import trials, verdicts
from tunematrix.doctor.findings import (
    BackendFinding,
    Diagnosis,
    EnvironmentFinding,
    QuantizerFinding,
    State,
    problems,
)
from tunematrix.doctor.hosts import is_worth_a_line, look_at
from tunematrix.environments.host import this_machine
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput, NothingTested, Obstacle, TunematrixError
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Option
from tunematrix.matrix.plan import check_backends
from tunematrix.matrix.requirements import build_tools, first_lack, importable
from tunematrix.matrix.select import Selection
from tunematrix.paths import made, shown, unwritable
from tunematrix.report.rows import plain_first
from tunematrix.workflow.context import RunContext


def examine(
    context: RunContext,
    environments: Mapping[str, Environment],
    wanted: Environment | None,
    selection: Selection,
    timeout: int,
) -> Diagnosis:
    """Find out what this machine and this virtualenv can do.

    Args:
        context: what trials share; see `trials.open_context`.
        environments: all of the project's, by name.
        wanted: the one to look at; None for everything there is.
        selection: which pairs of backend and quantizer are looked at.
        timeout: seconds that each trial may take, compiling before it not included.

    Raises:
        BadInput: the environment has a backend without a config.
        NothingTested: the selection leaves no pair.
        MachineProblem: no evidence can be kept.
    """
    root, groups = context.root, context.groups
    if wanted is not None:
        check_backends(wanted, groups)
        environments = {wanted.name: wanted}
    every = environments.values()
    rows = [row for row in every if row is wanted or is_worth_a_line(row, root)]
    found = tuple(look_at(row, root, groups) for row in rows)
    named = groups.axes["backend"] if wanted is None else wanted.backends
    obstacles = {name: _obstacle(name, rows, found) for name in _selected(named, selection)}
    backends, pairs = _try_all(context, obstacles, selection, timeout)
    if selection.selectors and not pairs:
        message = "no pair of backend and quantizer matches; remove or change --axis"
        raise NothingTested(message)
    diagnosis = Diagnosis(
        machine=str(this_machine([])),
        python=platform.python_version(),
        virtualenv=sys.prefix,
        environments=found,
        backends=backends,
        quantizers=pairs,
    )
    if wanted is None:
        return diagnosis
    return replace(_held_against(wanted, diagnosis), partial=bool(selection.selectors))


def _try_all(
    context: RunContext,
    obstacles: Mapping[str, Obstacle | None],
    selection: Selection,
    timeout: int,
) -> tuple[tuple[BackendFinding, ...], tuple[QuantizerFinding, ...]]:
    """Try backends and their quantizers; `obstacles` has each, with why this machine lacks it."""
    backends: list[BackendFinding] = []
    pairs: list[QuantizerFinding] = []
    # Backends that need the same modules share the process that has imported them.
    for _, names in groupby(obstacles, lambda name: _needs(context, name)):
        together = tuple(names)
        sharing = trials.with_backends(context, *together)
        try:
            for name in together:
                backend = _examine_backend(sharing, name, obstacles[name], timeout)
                backends.append(backend)
                pairs += _examine_quantizers(sharing, backend, selection, timeout)
        finally:
            sharing.close(prune=False)
    context.close(prune=True)
    return tuple(backends), tuple(pairs)


def examine_devices(context: RunContext, timeout: int) -> tuple[BackendFinding, ...]:
    """Try the devices of a context's environment, in processes like those of its cells.

    Args:
        context: with the environment. timeout: seconds that each trial may take.

    Raises:
        BadInput: a backend has no config.
        MachineProblem: no evidence can be kept.
    """
    environment = context.environment
    check_backends(environment, context.groups)
    found = (look_at(environment, context.root, context.groups),)
    obstacles = {name: _obstacle(name, (environment,), found) for name in environment.backends}
    return tuple(
        _examine_backend(context, name, obstacle, timeout) for name, obstacle in obstacles.items()
    )


def _needs(context: RunContext, backend: str) -> tuple[tuple[str, ...], str]:
    declared = context.groups.backend(backend)
    return declared.preload, declared.canary


def _held_against(wanted: Environment, found: Diagnosis) -> Diagnosis:
    missing = tuple(module for module in wanted.requires if not importable(module))
    lists = (found.environments, found.backends, found.quantizers)
    lacking = tuple(problems(wanted, *lists, missing))
    return replace(found, environment=wanted.name, problems=lacking)


def _selected(names: Iterable[str], selection: Selection) -> list[str]:
    """Return the backends that a selection leaves; what it says of other axes is for pairs."""
    chosen = [one.options for one in selection.selectors if one.axis == "backend"]
    return [name for name in names if all(name in options for options in chosen)]


def _obstacle(
    backend: str, rows: Iterable[Environment], found: Iterable[EnvironmentFinding]
) -> Obstacle | None:
    """Return why this machine lacks a backend's device: no environment that has it fits here."""
    with_it = [one for row, one in zip(rows, found, strict=True) if backend in row.backends]
    obstacles = [one.obstacle for one in with_it if one.obstacle is not None]
    return obstacles[0] if obstacles and len(obstacles) == len(with_it) else None


def _examine_backend(
    context: RunContext, name: str, obstacle: Obstacle | None, timeout: int
) -> BackendFinding:
    """Try a backend's device, unless its libraries are missing or the machine rules it out."""
    option = context.groups.axes["backend"][name]
    declared = option.declared
    missing = context.executor.missing(declared.requires)
    if obstacle is not None:
        reason = f"looked for: {obstacle.looked_for}; found: {obstacle.found}"
        finding = _not_tried(option, "not here", reason, obstacle.to_do)
    elif missing:
        reason = f"needs {', '.join(missing)}"
        finding = _not_tried(option, "not installed", reason, declared.install)
    elif not declared.implementation:  # nothing claims a device
        finding = BackendFinding(option.name, declared.description, "works")
    else:
        finding = _try_device(context, option, timeout)
    return replace(finding, missing=missing, versions=_versions(declared.requires))


def _examine_quantizers(
    context: RunContext, backend: BackendFinding, selection: Selection, timeout: int
) -> list[QuantizerFinding]:
    cells, exclusions = trials.pairs(context.groups, backend.name, timeout)
    pairs = [verdicts.unsupported(one) for one in exclusions if selection(one.cell)]
    chosen = filter(selection, cells)
    pairs += [_examine_quantizer(context, cell, backend) for cell in chosen]
    return sorted(pairs, key=lambda pair: plain_first(pair.quantizer))


def _not_tried(option: Option, state: State, reason: str, fix: str) -> BackendFinding:
    description = option.declared.description
    return BackendFinding(option.name, description, state, reason=reason, fix=fix)


def _try_device(context: RunContext, option: Option, timeout: int) -> BackendFinding:
    _make_folder(context)
    try:
        trial = trials.try_device(context, option.name, timeout)
    except BadInput:
        raise
    except OSError as error:  # of this machine, which says nothing about the backend
        raise unwritable(context.folder, error) from error
    except TunematrixError as error:
        return _not_tried(option, "broken", str(error), "")
    assert trial.evidence is not None and trial.run_dir is not None
    finding = verdicts.device_finding(option, trial.evidence, trial.claim)
    if finding.state == "broken":
        return replace(finding, evidence=shown(trial.run_dir.path))
    trials.forget(trial)
    return finding


def _examine_quantizer(
    context: RunContext, cell: Cell, backend: BackendFinding
) -> QuantizerFinding:
    """Try one quantizer; whatever becomes of that is a finding, and the others go on."""
    declared = context.groups.axes["quantizer"][cell.axes["quantizer"]].declared
    tools = build_tools(declared.builds_with)
    lack = first_lack(cell.axes, context.groups, context.executor.missing)
    if lack is not None or backend.state != "works":
        return verdicts.unavailable(cell, backend, lack, tools)
    _make_folder(context)
    try:
        trial = trials.try_quantizer(context, cell)
    except BadInput:
        raise
    except OSError as error:  # of this machine, which says nothing about the backend
        raise unwritable(context.folder, error) from error
    except TunematrixError as error:
        return verdicts.differing(cell, str(error), tools)
    assert trial.evidence is not None and trial.run_dir is not None
    finding = verdicts.quantizer_finding(cell, trial.evidence, trial.claim, tools)
    if finding.outcome == "agrees":
        trials.forget(trial)
        return finding
    return replace(finding, evidence=shown(trial.run_dir.path))


def _make_folder(context: RunContext) -> None:
    """Make the folder of the trials: without one, nothing is wrong with what is tried.

    Raises:
        MachineProblem: it can't be made.
    """
    made(context.run_folder)


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of what modules come from, as far as it is installed."""
    distributions = _distributions()
    names = [name for module in modules for name in distributions.get(module.split(".")[0], ())]
    return {name: version(name) for name in sorted(set(names))}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return what each top-level module comes from; reading it takes a tenth of a second."""
    return packages_distributions()
