"""Names of checks and of their groups in files, held against the registry before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tunematrix.checks.registry import registry
from tunematrix.configuration.options import RecipeOption
from tunematrix.errors import did_you_mean
from tunematrix.matrix.groups import Groups, Option
from tunematrix.matrix.releases import ReleaseFile
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Problem, Route, refuse
from tunematrix.spec.yaml_tree import read_tree


def refuse_unknown_checks(groups: Groups, specs: Sequence[Spec] = ()) -> None:
    """See that every check and every group of checks that files name is there.

    Raises:
        BadInput: one isn't; the text lists all of them with file, line and the nearest right name.
    """
    options = [option for options in groups.axes.values() for option in options.values()]
    problems = [problem for option in options for problem in _option_problems(option)]
    problems += [problem for file in groups.releases for problem in _release_problems(file)]
    refuse([*problems, *(problem for spec in specs for problem in _spec_problems(spec))])


def unknown_check(name: str) -> str | None:
    """Return the mistake in the name of a check; None if there is such a check."""
    known = registry().names
    return None if name in known else f"no check is called {name}; {did_you_mean(name, known)}"


def _spec_problems(spec: Spec) -> Iterator[Problem]:
    for index, entry in enumerate(spec.known_failures):
        if entry.check is not None and (text := unknown_check(entry.check)):
            yield spec.problem(("known_failures", index, "check"), text)


def _release_problems(file: ReleaseFile) -> Iterator[Problem]:
    for index, fault in enumerate(file.table.faults):
        for route, text in _unknown(("faults", index, "checks"), fault.checks):
            yield file.tree.problem(route, text)


def _option_problems(option: Option) -> Iterator[Problem]:
    wrong = list(_unknown_in(option))
    if not wrong:
        return
    tree = read_tree(option.path)  # it was read before, and its lines were not kept
    yield from (tree.problem(route, text) for route, text in wrong)


def _unknown_in(option: Option) -> Iterator[tuple[Route, str]]:
    """Yield the place of each unknown name in an option's file, and what to do about it."""
    declared = option.declared
    for axis, answers in declared.capabilities.items():
        for name, refusal in answers.items():
            if refusal is not None:
                yield from _unknown(("capabilities", axis, name, "checks"), refusal.checks)
    for index, entry in enumerate(declared.unsupported):
        yield from _unknown(("unsupported", index, "checks"), entry.checks)
    if isinstance(declared, RecipeOption):
        groups = registry().groups
        for index, group in enumerate(declared.owes):
            if group not in groups:
                text = f"no group of checks is called {group}; {did_you_mean(group, groups)}"
                yield ("owes", index), text


def _unknown(route: Route, names: Iterable[str]) -> Iterator[tuple[Route, str]]:
    for index, name in enumerate(names):
        if text := unknown_check(name):
            yield (*route, index), text
