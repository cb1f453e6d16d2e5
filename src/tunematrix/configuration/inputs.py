"""What steps of a pipeline read: the folder of a model, files of rows, and where they compute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from tunematrix.configuration.section import NonEmpty, Section

FloatLike = Annotated[float, Strict(False)]
Device = Literal["cpu", "cuda", "mps", "mlx"]
DEVICE = (
    "Where it is computed: cpu, cuda, mps or mlx. One that isn't there is an error. A spec leaves "
    "it out: there it is the cell's backend."
)


class ModelFolder(Section):
    """The model that a step begins with."""

    path: NonEmpty = Field(
        description="Folder of a model, or of an adapter that an earlier step saved."
    )


class DatasetFile(Section):
    """A file of rows."""

    path: NonEmpty = Field(description="The file.")
    format: Literal["json", "jsonl", "csv", "parquet"] | None = Field(
        None, description="How it is written; by default what its name ends with."
    )


class TextDataset(DatasetFile):
    """Rows with a text each."""

    text_field: NonEmpty = Field("text", description="Field that holds the text.")


class PreferenceDataset(DatasetFile):
    """Rows with a prompt and two answers each."""

    prompt_field: NonEmpty = Field("prompt", description="Field that holds the prompt.")
    chosen_field: NonEmpty = Field("chosen", description="Field that holds the better answer.")
    rejected_field: NonEmpty = Field("rejected", description="Field that holds the worse answer.")


class PromptDataset(DatasetFile):
    """Rows with a prompt each."""

    prompt_field: NonEmpty = Field("prompt", description="Field that holds the prompt.")
