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
from tunematrix.doctor.trials import Laboratory
from tunematrix.environments.host import this_machine
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput, NothingTested, TunematrixError
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Option
from tunematrix.matrix.plan import check_backends
from tunematrix.matrix.requirements import build_tools, first_lack, importable
from tunematrix.matrix.select import Selection
from tunematrix.paths import shown
from tunematrix.run.driver import Driver


def examine(
    laboratory: Laboratory,
    environments: Mapping[str, Environment],
    wanted: Environment | None,
    selection: Selection,
) -> Diagnosis:
    """Find out what this machine and this virtualenv can do.

    Args:
        laboratory: where trials run.
        environments: all of the project's, by name.
        wanted: the one to look at; None for everything there is.
        selection: which pairs of backend and quantizer are looked at.

    Raises:
        BadInput: the environment has a backend without a config.
        NothingTested: the selection leaves no pair.
    """
    root, groups = laboratory.root, laboratory.groups
    if wanted is not None:
        check_backends(wanted, groups)
        environments = {wanted.name: wanted}
    every = environments.values()
    rows = [row for row in every if row is wanted or is_worth_a_line(row, root)]
    found = tuple(look_at(row, root, groups) for row in rows)
    named = groups.axes["backend"] if wanted is None else wanted.backends
    refusals = {name: _refusal(name, rows, found) for name in _selected(named, selection)}
    backends, pairs = _try_all(laboratory, refusals, selection)
    if selection.selectors and not pairs:
        message = "no pair of backend and quantizer matches; loosen --axis"
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
    laboratory: Laboratory, refusals: Mapping[str, str], selection: Selection
) -> tuple[tuple[BackendFinding, ...], tuple[QuantizerFinding, ...]]:
    """Try backends and their quantizers; `refusals` has each, and why this machine lacks it."""
    backends: list[BackendFinding] = []
    pairs: list[QuantizerFinding] = []
    # Backends that need the same modules share the process that has imported them.
    for (preload, canaries), names in groupby(refusals, laboratory.needs):
        with Driver(preload, canaries=canaries, report=laboratory.say) as driver:
            for name in names:
                backend = _examine_backend(laboratory, driver, name, refusals[name])
                backends.append(backend)
                pairs += _examine_quantizers(laboratory, driver, backend, selection)
    laboratory.tidy()
    return tuple(backends), tuple(pairs)


def _held_against(wanted: Environment, found: Diagnosis) -> Diagnosis:
    missing = tuple(module for module in wanted.requires if not importable(module))
    lists = (found.environments, found.backends, found.quantizers)
    told = tuple(problems(wanted, *lists, missing))
    return replace(found, environment=wanted.name, problems=told)


def _selected(names: Iterable[str], selection: Selection) -> list[str]:
    """Return the backends that a selection leaves; what it says of other axes is for pairs."""
    chosen = [one.options for one in selection.selectors if one.axis == "backend"]
    return [name for name in names if all(name in options for options in chosen)]


def _refusal(backend: str, rows: Iterable[Environment], found: Iterable[EnvironmentFinding]) -> str:
    """Return why this machine lacks a backend's device: no environment that has it fits here."""
    with_it = [one for row, one in zip(rows, found, strict=True) if backend in row.backends]
    refused = [one.refusal for one in with_it if one.refusal]
    return refused[0] if len(refused) == len(with_it) and refused else ""


def _examine_backend(
    laboratory: Laboratory, driver: Driver, name: str, told: str
) -> BackendFinding:
    """Try a backend's device, unless its libraries are missing or the machine is refused."""
    option = laboratory.groups.axes["backend"][name]
    declared = option.declared
    missing = tuple(module for module in declared.requires if not importable(module))
    if told:
        finding = _not_tried(option, "not here", *_as_reason_and_fix(told))
    elif missing:
        reason = f"needs {', '.join(missing)}"
        finding = _not_tried(option, "not installed", reason, declared.install)
    else:
        finding = _try_device(laboratory, driver, option)
    return replace(finding, missing=missing, versions=_versions(declared.requires))


def _examine_quantizers(
    laboratory: Laboratory, driver: Driver, backend: BackendFinding, selection: Selection
) -> list[QuantizerFinding]:
    cells, exclusions = trials.pairs(laboratory.groups, backend.name, laboratory.timeout)
    pairs = [verdicts.unsupported(one) for one in exclusions if selection(one.cell)]
    chosen = filter(selection, cells)
    pairs += [_examine_quantizer(laboratory, driver, cell, backend) for cell in chosen]
    order = list(laboratory.groups.axes["quantizer"])
    return sorted(pairs, key=lambda pair: order.index(pair.quantizer))


def _not_tried(option: Option, state: State, reason: str, fix: str) -> BackendFinding:
    description = option.declared.description
    return BackendFinding(option.name, description, state, reason=reason, fix=fix)


def _as_reason_and_fix(told: str) -> tuple[str, str]:
    """Part a refusal of a host, which has three lines: looked for, found, to do."""
    reason, _, fix = told.rpartition("\nto do: ")
    return reason.replace("\n", "; "), fix


def _try_device(laboratory: Laboratory, driver: Driver, option: Option) -> BackendFinding:
    try:
        trial = laboratory.try_device(driver, option.name)
    except BadInput:
        raise
    except (TunematrixError, OSError) as error:
        return _not_tried(option, "broken", str(error), "")
    finding = verdicts.device_finding(option, trial.evidence, trial.claim)
    if finding.state == "broken":
        return replace(finding, evidence=shown(trial.folder))
    trial.forget()
    return finding


def _examine_quantizer(
    laboratory: Laboratory, driver: Driver, cell: Cell, backend: BackendFinding
) -> QuantizerFinding:
    """Try one quantizer; whatever becomes of that is a finding, and the others go on."""
    declared = laboratory.groups.axes["quantizer"][cell.axes["quantizer"]].declared
    tools = build_tools(declared.builds_with)
    lack = first_lack(cell.axes, laboratory.groups)
    if lack is not None or backend.state != "works":
        return verdicts.unavailable(cell, backend, lack, tools)
    try:
        trial = laboratory.try_quantizer(driver, cell)
    except BadInput:
        raise
    except (TunematrixError, OSError) as error:
        return verdicts.differing(cell, str(error), tools)
    finding = verdicts.quantizer_finding(cell, trial.evidence, trial.claim, tools)
    if finding.outcome == "agrees":
        trial.forget()
        return finding
    return replace(finding, evidence=shown(trial.folder))


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of what modules come from, as far as it is installed."""
    distributions = _distributions()
    names = [name for module in modules for name in distributions.get(module.split(".")[0], ())]
    return {name: version(name) for name in sorted(set(names))}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return what each top-level module comes from; reading it takes a tenth of a second."""
    return packages_distributions()
