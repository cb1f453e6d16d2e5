"""What was found out about one config, and its form as JSON between the two processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tunematrix.paths import shown
from tunematrix.spec.problems import Problem, dotted

Kind = Literal["config", "option", "included", "plain", "other"]
"""What a file is.

config: complete by itself, and composed as it is. option: one of a group, composed into a config.
included: part of another file, and composed with that. plain: YAML without Hydra, whose
interpolations are resolved. other: YAML of another tool, which is only read.
"""
Outcome = Literal["passed", "failed", "unchecked"]


@dataclass(frozen=True)
class ConfigReport:
    """What was found out about one config.

    Attributes:
        file: the config. kind: what it is.
        composed: how it was composed, such as `train, model=wide`; empty for its name alone.
        problems: what is wrong, each with its file and line.
        notes: what it still needs from whoever uses it; nothing wrong by itself.
        unchecked: why it couldn't be composed though nothing is wrong in it, or empty.
    """

    file: Path
    kind: Kind
    composed: str = ""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    unchecked: str = ""

    @property
    def outcome(self) -> Outcome:
        """Whether it is good."""
        if self.problems:
            return "failed"
        return "unchecked" if self.unchecked else "passed"

    def with_problems(self, more: tuple[Problem, ...]) -> ConfigReport:
        """Return it with more problems, none of them twice, in the order of their lines."""
        unique = dict.fromkeys((*self.problems, *more))
        ordered = sorted(unique, key=lambda one: (str(one.file), one.line or 0))
        return replace(self, problems=tuple(ordered))

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "file": shown(self.file),
            "kind": self.kind,
            "outcome": self.outcome,
            "composed": self.composed,
            "faults": [
                {
                    "file": None if one.file is None else shown(one.file),
                    "line": one.line,
                    "key": dotted(one.route),
                    "text": one.text,
                }
                for one in self.problems
            ],
            "notes": list(self.notes),
            "unchecked": self.unchecked,
        }

    def packed(self) -> dict[str, Any]:
        """Return it for `unpacked`, routes and all."""
        problems = [
            (str(p.file) if p.file else None, p.line, p.route, p.text) for p in self.problems
        ]
        return {
            "file": str(self.file),
            "kind": self.kind,
            "composed": self.composed,
            "problems": problems,
            "notes": self.notes,
            "unchecked": self.unchecked,
        }


def unpacked(data: Mapping[str, Any]) -> ConfigReport:
    """Return the report that `packed` gave."""
    problems = tuple(
        Problem(Path(file) if file else None, line, tuple(route), text)
        for file, line, route, text in data["problems"]
    )
    return ConfigReport(
        Path(data["file"]),
        data["kind"],
        data["composed"],
        problems,
        tuple(data["notes"]),
        data["unchecked"],
    )
