"""Sets of releases that people have, and what the newest run of the suite over each came to.

`constraints/sets.toml` names them, and a file of pins beside it holds each, so that a run can be
repeated. What runs came to is kept in `docs/verified/sets.json`, which docs/releases.md is made of.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tunematrix.configuration.section import Names, NonEmpty, Section
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.paths import shown
from tunematrix.report.rows import counts, in_words, runs
from tunematrix.report.text import markdown
from tunematrix.results.record import Outcome, Record
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import dotted

SETS, PINS = "constraints/sets.toml", "constraints/sets"
"""Where sets are named, and the folder of their pins, in a checkout."""
KEPT = "docs/verified/sets.json"
"""What the newest run over each set came to."""
Part: TypeAlias = Literal["all", "smoke"]
"""A part of the suite whose outcomes are kept."""
TOLD = (
    *("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "torchao", "hqq"),
    *("mlx", "mlx-lm"),
)
"""Distributions whose releases the table names."""


class ReleaseSet(Section):
    """A set of releases."""

    about: NonEmpty = Field(description="What it is, in a few words.")
    python: Annotated[str, Field(pattern=r"^3\.[0-9]+$")] = Field(description="Such as 3.12.")
    environment: NonEmpty = Field("cpu", description="Whose cells run over it.")


class ReleaseSets(Section):
    """All sets, and for each of their environments what such a set is a resolution of."""

    requirements: Mapping[NonEmpty, Names]
    sets: Mapping[NonEmpty, ReleaseSet]


class SetOutcomes(BaseModel):
    """What a run over a set came to.

    Attributes:
        part: which part of the suite ran: all of it, or its smoke tier.
        versions: distribution to version, of those that the table names.
        cells: how many had which outcome; relations: the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str
    python: str
    part: Part
    versions: Mapping[str, str]
    cells: Mapping[Outcome, int]
    relations: Mapping[Outcome, int]


@dataclass(frozen=True)
class Sets:
    """The sets of a checkout.

    Attributes:
        root: the checkout. named: each set by its name, in the order of the file.
        requirements: of each environment, what is installed in the releases that a set pins.
    """

    root: Path
    named: Mapping[str, ReleaseSet]
    requirements: Mapping[str, Sequence[str]]

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names of the sets that are asked for; of all where none is.

        Raises:
            BadInput: there is no such set.
        """
        for name in names:
            if name not in self.named:
                raise BadInput(f"no set is called {name}; {did_you_mean(name, self.named)}")
        return names or list(self.named)

    def required(self, name: str) -> Sequence[str]:
        """Return what a set is a resolution of."""
        return self.requirements[self.named[name].environment]

    def pins(self, name: str) -> Path:
        """Return the file that pins the releases of a set."""
        return self.root / PINS / f"{name}.txt"


def read_sets(root: Path) -> Sets:
    """Read the sets of a checkout.

    Raises:
        BadInput: the file is wrong, or a set has no pins.
    """
    file = root / SETS
    try:
        found = ReleaseSets.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = [f"{dotted(one.route)}: {one.text}" for one in findings(ReleaseSets, error)]
        raise BadInput("\n  ".join([f"{shown(file)}:", *wrong])) from None
    except (OSError, ValueError) as error:  # no file, or no TOML
        raise BadInput(f"{shown(file)}: {error}; correct it") from None
    sets = Sets(root, found.sets, found.requirements)
    for name, one in sets.named.items():
        if one.environment not in found.requirements:
            text = f"{name}: {one.environment} has no requirements"
            advice = did_you_mean(one.environment, found.requirements)
            raise BadInput(f"{shown(file)}: {text}; {advice}")
        if not sets.pins(name).is_file():
            raise BadInput(f"{shown(file)}: {name} has no pins; resolve them as its head says")
    return sets


def outcomes_of(records: Sequence[Record], versions: Mapping[str, str], part: Part) -> SetOutcomes:
    """Return what the records of one run came to; `versions` are those of its set."""
    (run,) = runs(records)
    return SetOutcomes(
        date=run.date,
        python=str(run.machine.get("python", "")),
        part=part,
        versions={name: versions[name] for name in TOLD if name in versions},
        cells=counts(run.cells),
        relations=counts(run.relations),
    )


def read_kept(root: Path) -> dict[str, SetOutcomes]:
    """Return what the newest run over each set came to, by its name.

    Raises:
        BadInput: the file is not as it was written.
    """
    file = root / KEPT
    if not file.is_file():
        return {}
    try:
        return TypeAdapter(dict[str, SetOutcomes]).validate_json(file.read_bytes())
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]["msg"]
        advice = "remove it, and run nox -s release-sets"
        raise BadInput(f"{shown(file)} is not as it was written: {wrong}; {advice}") from None


def keep(root: Path, name: str, outcomes: SetOutcomes) -> None:
    """Keep what the run over a set came to, in place of what an earlier one did."""
    kept = {**read_kept(root), name: outcomes}
    plain = {one: kept[one].model_dump(mode="json") for one in sorted(kept)}
    file = root / KEPT
    draft = file.with_suffix(".unfinished")
    draft.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    draft.replace(file)


def table(sets: Sets, kept: Mapping[str, SetOutcomes]) -> str:
    """Return sets × outcomes as Markdown, in the order of the sets."""
    columns = ("set", "Python", "releases", "ran", "cells", "relations", "date")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, one in sets.named.items():
        head = f"| `{name}`: {markdown(one.about)}"
        if name not in kept:
            lines.append(f"{head} | {one.python} | – | not yet | – | – | – |")
            continue
        run = kept[name]
        versions = ", ".join(f"{what} {version}" for what, version in run.versions.items())
        cells, relations = _in_words(run.cells), _in_words(run.relations)
        figures = f"{run.part} | {cells} | {relations} | {run.date}"
        lines.append(f"{head} | {run.python} | {versions} | {figures} |")
    return "\n".join(lines)


def _in_words(outcomes: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{n} {in_words(outcome, n)}" for outcome, n in outcomes.items()) or "–"
