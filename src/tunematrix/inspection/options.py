"""Every file of one config folder of Hydra, composed: by itself, as an option, or as a part."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from tunematrix.inspection.compose import Composer, Composition, choice
from tunematrix.inspection.defaults import circle, reachable
from tunematrix.inspection.examined import Examined
from tunematrix.inspection.interpolations import Interpolated, resolve
from tunematrix.inspection.reports import ConfigReport
from tunematrix.inspection.tree import HydraTree
from tunematrix.spec.problems import Problem

ATTEMPTS = 6
"""Primary configs that an option is tried with, and options tried beside it."""
WORTH_A_PROCESS = 40
"""So many compositions are shared by several processes."""

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Task:
    """One composition: of a primary config, with overrides, for a file."""

    name: str
    base: str
    overrides: tuple[str, ...] = ()


@dataclass
class Answer:
    """What one composition came to, without what can't travel between processes."""

    composition: Composition
    resolved: Interpolated | None


class TreeExamination:
    """Examines one config folder of Hydra.

    Args:
        tree: the folder. wanted: the files that were asked for.
        say: takes what is counted, how many are done, and how many there are.
        broken_setup: why modules that may register something couldn't be imported.
    """

    def __init__(
        self, tree: HydraTree, wanted: set[Path], say: Say, broken_setup: Sequence[str]
    ) -> None:
        self.tree = tree
        self.wanted = wanted
        self.say = say
        self.broken_setup = broken_setup
        self.composer = Composer(tree)
        self.bases: dict[str, Answer] = {}
        self.base_problems: set[Problem] = set()

    def run(self) -> Iterator[Examined]:
        """Yield a report of every file of the folder that was asked for."""
        _ = self.composer.hydra_node  # before there are processes that need it
        primaries = [Task(name, name) for name in self.tree.primaries
                     if self._is_wanted(name) or name in self.tree.bases]  # fmt: skip
        answers = dict(
            zip((task.name for task in primaries), self._compose(primaries), strict=True)
        )
        self.bases = {name: answers[name] for name in self.tree.bases if name in answers}
        reported = [self._report(name, answer) for name, answer in answers.items()
                    if name in self.tree.layouts]  # fmt: skip
        yield from reported
        self.base_problems = {p for one in reported for p in one.report.problems}
        covered = {part.name: name for name, answer in answers.items() if answer.resolved
                   for part in answer.composition.parts}  # fmt: skip
        rest = [name for name in self.tree.layouts
                if name not in answers and self._is_wanted(name)]  # fmt: skip
        options = [
            name for name in rest if name not in covered and self.tree.kind(name) == "option"
        ]
        made = dict(zip(options, self._with_options(options), strict=True))
        covered |= {part.name: name for name, answer in made.items() if answer.resolved
                    for part in answer.composition.parts if part.name not in covered}  # fmt: skip
        for name in rest:
            if name in made:
                yield self._report(name, made[name])
            elif name in covered:
                yield self._part(name, {**answers, **made}[covered[name]])
            else:
                yield self._uncovered(name)

    def _is_wanted(self, name: str) -> bool:
        layout = self.tree.layouts.get(name)
        return layout is None or layout.path in self.wanted

    def _compose(self, tasks: Sequence[Task]) -> list[Answer]:
        """Compose, in several processes where that is worth it."""
        total = len(tasks)
        processes = min(os.cpu_count() or 1, 4)
        if total < WORTH_A_PROCESS or processes == 1:
            return [self._compose_one(task) for task in tasks]
        answers = []
        context = multiprocessing.get_context("fork")
        _FORKED.append(self.composer)
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            for answer in pool.map(_answer_forked, tasks, chunksize=8):
                answers.append(answer)
                if len(answers) % 10 == 0:
                    self.say("configs", len(answers), total)
        return answers

    def _compose_one(self, task: Task) -> Answer:
        return _answer(self.composer, task)

    def _with_options(self, names: Sequence[str]) -> list[Answer]:
        """Compose each option into a config that it fits."""
        choices = [self._tasks(name) for name in names]
        begin = [next(tasks) for tasks in choices]
        results = []
        for answer, first, tasks in zip(self._compose(begin), begin, choices, strict=True):
            best = answer
            for task in islice(tasks, ATTEMPTS) if self._is_faulty(answer) else ():
                other = self._compose_one(task)
                if not self._is_faulty(other):
                    best = other
                    break
            if self._is_faulty(best):
                best = self._beside_others(best, first)
            results.append(best)
        return results

    def _is_faulty(self, answer: Answer) -> bool:
        return answer.resolved is None or bool(answer.resolved.unresolved)

    def _tasks(self, name: str) -> Iterator[Task]:
        """Yield the ways to compose an option: where its group is, then where it can be added."""
        group = str(PurePosixPath(name).parent)
        option = PurePosixPath(name).name
        answers = list(self.bases.items())
        for base, answer in answers:
            for key in answer.composition.choices if answer.resolved else ():
                if key.partition("@")[0] == group:
                    yield Task(name, base, (choice(key, option),))
        wanted = {e.group for e in self.tree.layouts[name].defaults or () if "override" in e.words}
        answers.sort(key=lambda item: -len(wanted & set(item[1].composition.choices or ())))
        for base, answer in answers:
            if answer.resolved is None:
                continue
            yield Task(name, base, (choice(f"+{group}", option),))
            for other in self._options_with_group(group):
                yield Task(name, base, (other, choice(group, option)))
        if not any(answer.resolved for _, answer in answers):
            # The option is as unchecked as they are.
            yield Task(name, answers[0][0] if answers else name)

    def _options_with_group(self, group: str) -> Iterator[str]:
        """Yield overrides that bring in a group which only some option's defaults list has."""
        for name, layout in self.tree.layouts.items():
            folder = PurePosixPath(name).parent
            if name in self.tree.primaries or str(folder) == ".":
                continue
            for entry in layout.defaults or ():
                if (
                    entry.group
                    and str((PurePosixPath() if entry.absolute else folder) / entry.group) == group
                ):
                    yield choice(str(folder), PurePosixPath(name).name)

    def _beside_others(self, answer: Answer, task: Task) -> Answer:
        """Compose an option beside others that have the keys it refers to; it may need them."""
        keys = [one.key for one in answer.resolved.unresolved if one.key] if answer.resolved else []
        for key in keys[:1]:
            for override in list(self._providers(key, answer))[:ATTEMPTS]:
                other = self._compose_one(replace(task, overrides=(*task.overrides, override)))
                if not self._is_faulty(other):
                    return other
        return answer

    def _providers(self, key: str, answer: Answer) -> Iterator[str]:
        """Yield overrides that choose an option which has a key."""
        route = tuple(key.split("."))
        choices = answer.composition.choices
        for name, layout in self.tree.layouts.items():
            group, option = str(PurePosixPath(name).parent), PurePosixPath(name).name
            package = () if layout.package == "_global_" else tuple(group.split("/"))
            rest = route[len(package) :]
            if group != "." and rest and route[: len(package)] == package and rest in layout.lines:
                yield choice(group, option) if group in choices else choice(f"+{group}", option)

    def _report(self, name: str, answer: Answer) -> Examined:
        """Make the report of a file that was composed."""
        layout, composition = self.tree.layouts[name], answer.composition
        kind = self.tree.kind(name)
        composed = "" if composition.label == name else composition.label
        report = ConfigReport(layout.path, kind, composed)
        own = [*layout.problems, *self.composer.hydra_problems(name, layout)]
        if answer.resolved is None:
            problems = (*own, *composition.problems)
            fresh = tuple(p for p in problems if kind == "config" or p not in self.base_problems)
            notes = tuple(f"may be wrong since {why}" for why in self.broken_setup)
            report = replace(report, notes=notes)
            broken = next((str(p) for p in problems if p not in fresh), "") if not fresh else ""
            return Examined(replace(report.with_problems(fresh), unchecked=broken))
        parts = composition.parts
        examined = Examined(
            report.with_problems(tuple(own)),
            answer.resolved,
            lambda route: self.composer.home(route, parts),
        )
        examined.add_resolution(self.broken_setup)
        if kind != "config":
            fresh = tuple(
                problem
                for problem in examined.report.problems
                if problem.file == layout.path or problem not in self.base_problems
            )
            examined.report = replace(examined.report, problems=fresh)
        return examined

    def _part(self, name: str, answer: Answer) -> Examined:
        """Make the report of a file that was composed as part of another."""
        examined = self._report(name, answer)
        file = examined.report.file
        own = tuple(problem for problem in examined.report.problems if problem.file == file)
        return replace(examined, report=replace(examined.report, problems=own), is_own=False)

    def _uncovered(self, name: str) -> Examined:
        """Make the report of a file that no composition has in it."""
        layout = self.tree.layouts[name]
        kind = self.tree.kind(name)
        report = ConfigReport(layout.path, kind, problems=layout.problems)
        if kind == "other" or layout.problems:
            return Examined(report)
        # Files that include nothing but each other: Hydra would never get to an end of them.
        if (found := circle(self.tree, name)) and not self._is_led_to(name):
            return Examined(replace(report, problems=(found,)))
        return Examined(replace(report, unchecked="no config that could be composed has it"))

    def _is_led_to(self, name: str) -> bool:
        """Return whether a config that is composed by itself leads to a file, and is told of it."""
        primaries = self.tree.primaries
        return any(name == one for root in primaries for one, _ in reachable(self.tree, root))


_FORKED: list[Composer] = []
"""What forked processes compose with, the last one; it can't be sent to them."""


def _answer_forked(task: Task) -> Answer:
    return _answer(_FORKED[-1], task)


def _answer(composer: Composer, task: Task) -> Answer:
    composition = composer.compose(task.base, task.overrides)
    if composition.config is None:
        return Answer(composition, None)
    resolved = resolve(composition.config, composition.hydra)
    return Answer(replace(composition, config=None, hydra=None), resolved)
