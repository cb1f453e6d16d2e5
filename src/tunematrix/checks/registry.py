"""A check says everything once, where it is defined; all that is known of checks is read here.

`@check(...)` makes a `Check` of a pure function. A module of checks lists nothing: the registry
takes every check that a module defines, in the order in which they stand there.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TypeAlias, get_args

from tunematrix.checks.verdict import Claim, Judgement, Verdict
from tunematrix.errors import BadInput
from tunematrix.evidence.events import Event
from tunematrix.evidence.evidence import Evidence
from tunematrix.spec.relation import RATIO, SAME, Figure, Quantity

ENTRY_POINTS = "tunematrix.checks"
"""The group in which a distribution names its checks: a module, or one check."""
MODULES = (
    "process",
    "tokenizing",
    "quantization",
    "parts",
    "starting",
    "batches",
    "ranks",
    "settings",
    "adapters",
    "steps",
    "interruption",
    "parameters",
    "saving",
    "loss",
    "log",
    "command",
    "preference",
    "generation",
    "fetching",
    "chain",
    "exporting",
    "pipeline",
    "serving",
    "parity",
    "resources",
    "watched",
    "watched_parameters",
    "watched_rates",
    "watched_gradients",
    "watched_updates",
    "watched_losses",
    "watched_batches",
    "watched_states",
)
"""Modules with checks, in the order in which a reader wants to see theirs fail: causes first."""
PROCESS = "process"
"""The group that every cell owes, and that is judged alone where the first of it fails."""
MEAN = "_mean"
"""Ends the names of a relation's verdicts on mean differences; others are on the largest."""
TOLERANCES = "tolerances"
"""The warning of a relation whose table was recorded elsewhere."""

Judge: TypeAlias = Callable[[Evidence, Claim], Judgement | None]
"""A pure function; None means that this claim asks nothing of it."""


@dataclass(frozen=True, eq=False)
class Check:
    """One check.

    Attributes:
        name: in records, in `known_failures` and in declared noes.
        group: its group of checks, which recipes owe as a whole.
        reads: kinds of events that it decides by.
        unit: of its measured value; empty for texts.
        bug: the bugs that it finds, as the end of the sentence "this finds …", with links.
        bound_in: dotted key of the spec that bounds it; a spec that gives it is judged by it,
            whatever the recipe owes. Empty where the bound is the check's own.
        judge: the function.
        only_with: kind of event without which nothing is asked of a cell, such as `Command`; None:
            it is asked of every cell.
    """

    name: str
    group: str
    reads: tuple[type[Event], ...]
    unit: str
    bug: str
    bound_in: str
    judge: Judge
    only_with: type[Event] | None = None

    def __call__(self, evidence: Evidence, claim: Claim) -> Verdict | None:
        """Judge one cell; None where its claim asks nothing of this check."""
        if self.only_with is not None and evidence.one(self.only_with) is None:
            return None
        found = self.judge(evidence, claim)
        return None if found is None else found.verdict(self.name, self.unit)

    @property
    def claim(self) -> str:
        """Its docstring: the claim in a sentence, then its readings and when it fails."""
        return inspect.getdoc(self.judge) or ""

    @property
    def module(self) -> str:
        """Where it is defined."""
        return self.judge.__module__

    def is_asked_by(self, claim: Claim) -> bool:
        """Return whether the spec bounds it."""
        if not self.bound_in:
            return False
        value: object = claim.spec
        for key in self.bound_in.split("."):
            value = getattr(value, key, None)
        return value not in (None, ())


def check(
    *,
    name: str,
    group: str,
    bug: str,
    reads: tuple[type[Event], ...] = (),
    unit: str = "",
    bound_in: str = "",
    only_with: type[Event] | None = None,
) -> Callable[[Judge], Check]:
    """Make a check of a function; see `Check` for the arguments.

    Raises:
        TypeError: it has no docstring, or no bug.
    """

    def decorate(judge: Judge) -> Check:
        # `python -OO` takes all of them away, which is no reason to judge by none.
        if not (bug and (inspect.getdoc(judge) or sys.flags.optimize > 1)):
            raise TypeError(f"check {name} needs a docstring, its claim, and the bug it stands for")
        return Check(name, group, reads, unit, bug, bound_in, judge, only_with)

    return decorate


@dataclass(frozen=True)
class Registry:
    """All checks there are.

    Attributes:
        checks: name to check, in the order in which they are judged within a group.
    """

    checks: Mapping[str, Check]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order of their first checks."""
        return tuple(dict.fromkeys(one.group for one in self.checks.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that an expected failure can have: of cells' checks and of relations'."""
        return (*self.checks, *relation_names())

    def in_group(self, group: str) -> tuple[Check, ...]:
        """Return a group's checks; none where there is no such group."""
        return tuple(one for one in self.checks.values() if one.group == group)


@cache
def registry() -> Registry:
    """Return the shipped checks and those of installed distributions.

    Raises:
        BadInput: a distribution's can't be imported, aren't checks, or take a name that is taken.
    """
    shipped = [import_module(f"tunematrix.checks.{name}") for name in MODULES]
    return assembled(shipped, entry_points(group=ENTRY_POINTS))


def assembled(modules: Iterable[ModuleType], points: Iterable[EntryPoint] = ()) -> Registry:
    """Return the registry of some modules, and of the entry points of distributions.

    Raises:
        BadInput: see `registry`.
    """
    checks: dict[str, Check] = {}
    offered = [(check, "") for module in modules for check in checks_of(module)]
    offered += [(check, point.value) for point in points for check in _plugged_in(point)]
    for check, plug_in in offered:
        if (taken := checks.setdefault(check.name, check)) is not check:
            where = f"{plug_in} (entry point of {ENTRY_POINTS})" if plug_in else check.module
            text = f"{where}: a check is called {check.name} already, in {taken.module}"
            raise BadInput(f"{text}; rename yours, or uninstall its distribution")
    return Registry(checks)


def checks_of(module: ModuleType) -> Iterator[Check]:
    """Yield the checks that a module defines, in their order; imported ones aren't its own."""
    for value in vars(module).values():
        if isinstance(value, Check) and value.module == module.__name__:
            yield value


def relation_names() -> tuple[str, ...]:
    """Return the names of relations' checks."""
    same = [SAME + quantity + end for quantity in get_args(Quantity) for end in ("", MEAN)]
    return (*same, *(RATIO + figure for figure in get_args(Figure)), TOLERANCES)


def _plugged_in(point: EntryPoint) -> list[Check]:
    """Import the checks that an entry point names."""
    what = f"{point.value} (entry point {point.name} of {ENTRY_POINTS})"
    advice = "mend it, or uninstall its distribution"
    try:
        loaded = point.load()
    except Exception as error:
        text = f"{what} can't be imported: {type(error).__name__}: {error}; {advice}"
        raise BadInput(text) from error
    checks = list(checks_of(loaded)) if isinstance(loaded, ModuleType) else [loaded]
    if not checks or not all(isinstance(one, Check) for one in checks):
        raise BadInput(f"{what} is neither a check nor a module that defines some; {advice}")
    return checks
