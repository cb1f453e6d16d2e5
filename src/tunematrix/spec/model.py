"""What a spec can say: one claim, the matrix it must hold over, the bounds that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.spec.bounds import (
    Generation,
    Inference,
    LogitError,
    Loss,
    Memory,
    Merge,
    NonEmpty,
    Parity,
    Range,
    Reload,
    Section,
    Stderr,
    Throughput,
    Transfer,
    unique,
)
from tunematrix.spec.problems import Problem, Route, place
from tunematrix.spec.relation import Relation, is_relations
from tunematrix.spec.values import (
    Files,
    Link,
    Marker,
    OneOrMore,
    Options,
    Plain,
    PlainOrList,
)
from tunematrix.spec.yaml_tree import nearest_line


def holds(when: Mapping[str, str | tuple[str, ...]], axes: Mapping[str, str]) -> bool:
    """Return whether options (axis to option) are among those that `when` names, on all axes."""
    return all(
        axes.get(axis) in ((wanted,) if isinstance(wanted, str) else wanted)
        for axis, wanted in when.items()
    )


class KnownFailure(Section):
    """Cells that are known to fail; strict, so it fails once the thing starts to work."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["raises"]}, {"required": ["check"]}]}
    )

    when: Mapping[str, OneOrMore] = Field(
        min_length=1, description="Axis to option, or to a list of options; all must match."
    )
    raises: NonEmpty | None = Field(
        None, description="Name of the exception the recipe ends with, or of one of its bases."
    )
    check: NonEmpty | None = Field(None, description="Name of the check that fails.")
    reason: NonEmpty = Field(description="Why it fails, for the report.")
    link: Link = Field(description="Where it is tracked.")

    @model_validator(mode="after")
    def _expects_one_thing(self) -> Self:
        if (self.raises is None) == (self.check is None):
            text = "expects {count}; give exactly one of raises and check"
            count = "neither an exception nor a check" if self.raises is None else "two things"
            raise PydanticCustomError("not_one", text, {"count": count})
        return self

    @property
    def is_of_relation(self) -> bool:
        """Whether it is the relation that fails, and not its arms."""
        return is_relations(self.check or "")

    def matches(self, axes: Mapping[str, str]) -> bool:
        """Return whether a cell with these options (axis to option) is meant."""
        return holds(self.when, axes)


@dataclass(frozen=True)
class Source:
    """Where a spec was written; all sources are equal, so that equal specs are.

    Attributes:
        path: its file; None for a spec built in Python.
        lines: line of each entry, by its route.
    """

    path: Path | None = field(default=None, compare=False)
    lines: Mapping[Route, int] = field(default_factory=dict, compare=False)


def _gpus(data: dict[str, Any]) -> int:
    return 0 if data.get("recipe") else 1


def _files(data: dict[str, Any]) -> tuple[str, ...]:
    return () if data.get("recipe") else ("trainer_logs.json",)


class Spec(Section):
    """One claim about fine-tuning, the matrix it must hold over, and what decides it."""

    model_config = ConfigDict(
        title="tunematrix spec",
        json_schema_extra={
            "anyOf": [{"required": ["recipe"]}, {"required": ["project_dir", "config"]}]
        },
    )

    test_id: str = Field(
        pattern=r"^[a-z0-9_-]+$",
        max_length=100,
        description="Unique name; the cells are called test_id[backend-option-option].",
    )
    description: str = Field("", description="The claim, in one sentence, for the report.")
    recipe: NonEmpty | None = Field(None, description="What a run does, such as sft.")
    project_dir: NonEmpty | None = Field(
        None, description="Folder of the project whose trainer is run; for the command recipe."
    )
    config: NonEmpty | None = Field(
        None, description="Configuration handed to that trainer; for the command recipe."
    )
    dynamic_args: Mapping[str, Plain] = Field(
        {}, description="Flags handed to that trainer: underscores become dashes, true a bare flag."
    )
    matrix: Mapping[str, Options] = Field(
        {},
        description="Axis to the options it must hold for, or all. Axes not named keep their "
        "default; backend is what the environment has.",
    )
    overrides: Mapping[str, PlainOrList] = Field(
        {}, description="Dotted configuration keys to values, for all cells (train.max_steps: 60)."
    )
    loss: Loss = Field(default_factory=Loss, description="Bounds on the logged training loss.")
    gap_closed: Range | None = Field(
        None, description="Share of the gap between the base's loss and the floor that was closed."
    )
    logit_error: LogitError | None = Field(None, description="Bound on the quantizer's error.")
    memory: Memory | None = Field(None, description="Bounds on memory.")
    throughput: Throughput | None = Field(None, description="Bound on the speed of training.")
    reload: Reload | None = Field(None, description="Bound on what saving and loading changes.")
    merge: Merge | None = Field(None, description="Bound on what merging an adapter changes.")
    generation: Generation | None = Field(None, description="Bound on generated texts.")
    parity: Parity | None = Field(None, description="Bounds on the distance to the recorded truth.")
    transfer: Transfer | None = Field(
        None, description="Bound on what another engine makes of an adapter."
    )
    relation: Relation | None = Field(
        None, description="Makes it a claim about several cells, which must agree."
    )
    preference: Range | None = Field(
        None,
        description="Required share of the preferred story, of two that start equally likely.",
    )
    stderr: Stderr = Field(default_factory=Stderr, description="Texts looked for in stderr.")
    expected_files: Files = Field(
        default_factory=_files,
        description="Files the run must leave, relative to its output folder. Default: none with "
        "`recipe`, else trainer_logs.json.",
    )
    min_steps_logged: int = Field(1, ge=0, description="Fewest training steps in the log.")
    gpu_requirement: int = Field(
        default_factory=_gpus,
        ge=0,
        description="GPUs that are needed. Default: 0 with `recipe`, else 1.",
    )
    timeout: int = Field(300, gt=0, description="Seconds after which a cell is ended.")
    markers: Annotated[tuple[Marker, ...], Strict(False), AfterValidator(unique)] = Field(
        ("integration",), description="Markers for selecting with -m."
    )
    known_failures: Annotated[tuple[KnownFailure, ...], Strict(False)] = Field(
        (), description="Cells that are known to fail, with reason and link."
    )
    inference: Inference | None = Field(
        None, description="Completion from a served checkpoint; for the serve recipe."
    )
    finalize: Mapping[str, Plain] | None = Field(
        None, description="Options of the step that readies a checkpoint for serving."
    )

    _source: Source = PrivateAttr(default_factory=Source)

    def __hash__(self) -> int:
        """Hash by name: equal specs have equal names, and mappings can't be hashed."""
        return hash(self.test_id)

    @property
    def source(self) -> Source:
        """Where this spec was written."""
        return self._source

    def written_in(self, source: Source) -> Self:
        """Return this spec with the place it was read from."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def where(self, *route: str | int) -> str:
        """Return `file:line` of an entry, or of the entry that should hold it."""
        return place(self._source.path, nearest_line(self._source.lines, route))

    def problem(self, route: Route, text: str) -> Problem:
        """Return a problem with the entry at `route` of this spec."""
        return Problem(self._source.path, nearest_line(self._source.lines, route), route, text)
