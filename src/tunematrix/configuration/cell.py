"""The whole configuration of one cell: cell.json holds it, engines and checks read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tunematrix.configuration.declarations import Declarations
from tunematrix.configuration.options import (
    AddedOption,
    BackendOption,
    DataOption,
    LauncherOption,
    MethodOption,
    ModelOption,
    OptimizerOption,
    PrecisionOption,
    QuantizerOption,
    RecipeOption,
    SchedulerOption,
)
from tunematrix.configuration.section import Section
from tunematrix.configuration.settings import (
    DpoSettings,
    GenerateSettings,
    MeterSettings,
    TrainSettings,
)
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.configuration.trainer import CommandSettings, Value
from tunematrix.configuration.watch import Watch

WATCH = "watch"
"""The group of checks on training that is watched from the inside."""


class Configuration(Section):
    """Everything that one cell is run with, after all options and overrides are merged."""

    recipe: RecipeOption
    model: ModelOption
    data: DataOption
    method: MethodOption
    quantizer: QuantizerOption
    backend: BackendOption
    optimizer: OptimizerOption
    scheduler: SchedulerOption
    precision: PrecisionOption
    launcher: LauncherOption
    train: TrainSettings
    dpo: DpoSettings
    generate: GenerateSettings
    meters: MeterSettings
    added: Mapping[str, AddedOption] = Field(
        {}, description="For each axis that the project added, its option."
    )
    command: CommandSettings | None = Field(
        None, description="What is run, where the recipe runs a command."
    )
    dynamic_args: Mapping[str, Value] = Field(
        {}, description="The arguments that this command is given."
    )
    steps: PipelineSteps | None = Field(
        None, description="What is done, where the recipe is a pipeline."
    )
    watch: Watch | None = Field(
        None, description="What is asked of training that is watched from the inside, if it is."
    )
    cache_dir: str = Field(
        "", description="Folder for generated checkpoints and compiled kernels; kept between runs."
    )
    references: str = Field(
        "",
        description="Folder in which the cells of a run share what they measured of unquantized "
        "originals; empty where each measures its own.",
    )

    def options(self) -> dict[str, Declarations]:
        """Return the option of each axis, added ones last."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        own = {name: one for name, one in found.items() if isinstance(one, Declarations)}
        return {**own, **self.added}

    @property
    def owes(self) -> tuple[str, ...]:
        """The groups of checks that are made on the cell: its recipe's, and that of watching."""
        watched = () if self.watch is None else (WATCH,)
        return (*self.recipe.owes, *watched)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON, without keys that have their default."""
        return self.model_dump(mode="json", exclude_defaults=True)
