"""The fields of a spec: one claim, the matrix it must hold for, the bounds that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)

from tunematrix.configuration.section import NonEmpty, Section, unique
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.configuration.trainer import Inference
from tunematrix.configuration.watch import Watching
from tunematrix.spec.bounds import (
    GenerationBound,
    LogitErrorBound,
    LossBounds,
    MemoryBounds,
    MergeBound,
    ParityBounds,
    Range,
    ReloadBound,
    StderrPatterns,
    ThroughputBound,
    TransferBound,
    seen,
)
from tunematrix.spec.known_failure import KnownFailure
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.problems import Problem, Route, place
from tunematrix.spec.relation import Relation
from tunematrix.spec.values import Files, Marker, Plain, PlainOrList
from tunematrix.spec.yaml_tree import nearest_line

LONGEST = 30 * 24 * 3600
"""Seconds after which nobody waits for a cell any more."""
COMMAND = "command"
"""The recipe of a spec that names none, but a project and its configuration."""
PIPELINE = "pipeline"


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
    """One claim about fine-tuning, the matrix it must hold for, and the bounds that decide it."""

    model_config = ConfigDict(
        title="tunematrix spec",
        json_schema_extra={
            "anyOf": [{"required": ["recipe"]}, {"required": ["project_dir", "config"]}]
        },
    )

    test_id: str = Field(
        pattern=r"^[a-z0-9_-]+$",
        max_length=100,
        description="Unique name, of a-z, 0-9, _ and -; begins the name of each cell: "
        "test_id[backend-option-option].",
    )
    description: str = Field("", description="The claim in one sentence; shown in the report.")
    recipe: NonEmpty | None = Field(
        None, description="The recipe that each cell follows, such as sft."
    )
    project_dir: NonEmpty | None = Field(
        None,
        description="Folder of the project that a trainer is run in, relative to pyproject.toml. "
        "Default: the folder of pyproject.toml itself.",
    )
    config: NonEmpty | None = Field(
        None, description="Configuration passed to that trainer: a name, or a path."
    )
    trainer: NonEmpty | None = Field(
        None,
        description="The trainer, as pyproject.toml names it. Default: the only one there.",
    )
    dynamic_args: Mapping[str, Plain] = Field(
        {},
        description="Arguments passed to that trainer. Unless it says otherwise, underscores "
        "become dashes, `true` a flag without a value, and `false` nothing.",
    )
    matrix: Matrix = Field(
        default_factory=Matrix,
        description="For each axis, the options to combine, or `all`. An axis that isn't named "
        "keeps its default. The backend comes from the environment.",
    )
    overrides: Mapping[str, PlainOrList] = Field(
        {}, description="Configuration keys to set in all cells, such as `train.max_steps: 60`."
    )
    loss: LossBounds = Field(
        default_factory=LossBounds, description="Bounds on the logged training loss."
    )
    gap_closed: Annotated[Range | None, seen(-10, 10)] = Field(
        None,
        description="Bounds on the share of the gap between the base model's loss and the entropy "
        "floor that training must close.",
    )
    logit_error: LogitErrorBound | None = Field(
        None, description="Bound on the error that quantizing causes in the logits."
    )
    memory: MemoryBounds | None = Field(None, description="Bounds on memory.")
    throughput: ThroughputBound | None = Field(None, description="Bound on the speed of training.")
    reload: ReloadBound | None = Field(
        None, description="Bound on the change that saving and loading may cause."
    )
    merge: MergeBound | None = Field(
        None, description="Bound on the change that merging an adapter may cause."
    )
    generation: GenerationBound | None = Field(None, description="Bound on generated texts.")
    parity: ParityBounds | None = Field(
        None, description="Bounds on the difference from recorded values."
    )
    transfer: TransferBound | None = Field(
        None, description="Bound on the change that loading another engine's adapter may cause."
    )
    relation: Relation | None = Field(
        None, description="Makes the spec a claim about several cells that must agree."
    )
    preference: Annotated[Range | None, seen(0, 1)] = Field(
        None,
        description="Bounds on the share of preferred stories after training; before it, the share "
        "is one half.",
    )
    stderr: StderrPatterns = Field(
        default_factory=StderrPatterns, description="Texts that are searched for in stderr."
    )
    expected_files: Files = Field(
        default_factory=_files,
        description="Files that the run must write, relative to its output folder. Default: none "
        "with `recipe`, otherwise trainer_logs.json.",
    )
    min_steps_logged: int = Field(
        1, ge=0, description="Smallest number of training steps in the log."
    )
    gpu_requirement: int = Field(
        default_factory=_gpus,
        ge=0,
        description="Number of GPUs needed. Default: 0 with `recipe`, otherwise 1.",
    )
    timeout: int = Field(
        300, gt=0, le=LONGEST, description="Seconds after which a cell is stopped."
    )
    markers: Annotated[tuple[Marker, ...], Strict(False), AfterValidator(unique)] = Field(
        ("integration",), description="Markers for selecting with -m."
    )
    known_failures: Annotated[tuple[KnownFailure, ...], Strict(False)] = Field(
        (), description="Cells that are known to fail, with reason and link."
    )
    inference: Inference | None = Field(
        None, description="A completion from the served model, and its largest perplexity."
    )
    finalize: Mapping[str, Plain] | None = Field(
        None, description="Arguments of the trainer's command that prepares it for serving."
    )

    watch: Watching = Field(
        None,
        description="Whether its training is watched from the inside, by PyTorch's own hooks: "
        "`true`, or a section.",
    )
    steps: PipelineSteps | None = Field(
        None,
        description="Steps of the recipe pipeline, in one cell. In their texts, {sft} is the "
        "folder that the step sft has written to, {download} that of a model that was downloaded, "
        "and {tmp_path} one for all of them.",
    )

    _source: Source = PrivateAttr(default_factory=Source)

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what isn't said: a spec that isn't watched keeps the digest it always had."""
        return {key: value for key, value in write(self).items() if key != "watch" or value}

    def __hash__(self) -> int:
        """Hash by name: equal specs have equal names, and mappings can't be hashed."""
        return hash(self.test_id)

    @property
    def source(self) -> Source:
        """Where this spec was written."""
        return self._source

    @property
    def runs_command(self) -> bool:
        """Whether its cells are the command of a trainer."""
        return self.recipe in (None, COMMAND)

    @property
    def pipeline(self) -> PipelineSteps | None:
        """The steps of its pipeline, with the server that `inference` asks for; or None."""
        if self.steps is None or self.inference is None:
            return self.steps
        return self.steps.answering(self.inference)

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
