"""What the steps are told that let a model answer: the configs of generate and serve."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.inputs import (
    DEVICE,
    Device,
    FloatLike,
    ModelFolder,
    PromptDataset,
)
from tunematrix.configuration.section import NonEmpty, PipelineStep, Section
from tunematrix.configuration.trainer import Inference


class ReferenceScorer(Section):
    """A model that judges texts by their perplexity."""

    path: NonEmpty = Field(description="Folder of the model, or its name on the Hub, such as gpt2.")
    perplexity_max: FloatLike = Field(
        500.0, gt=0, description="Largest perplexity of prompt and answer together."
    )


class GenerationSettings(Section):
    """The section `generation` of a config of `tunematrix generate`."""

    max_new_tokens: int = Field(64, ge=1, description="Longest answer (tokens).")
    temperature: FloatLike = Field(
        0.0, ge=0, description="0 takes the likeliest token each time; above, tokens are drawn."
    )
    seed: int = Field(0, ge=0, description="Seed of the draws.")
    batch_size: int = Field(8, ge=1, description="Prompts that are answered together.")
    threads: int = Field(0, ge=0, description="Threads on a CPU; 0: as many as it has cores.")
    output_dir: str = Field("", description="Folder that gets generated.jsonl.")


class GenerateStep(PipelineStep):
    """The config of `tunematrix generate`."""

    section: ClassVar[str] = "generation"

    model: ModelFolder = Field(description="The model that it begins with.")
    prompts: Annotated[tuple[NonEmpty, ...], Strict(False)] = Field(
        (), description="Prompts, written out here."
    )
    dataset: PromptDataset | None = Field(None, description="A file of prompts.")
    generation: GenerationSettings = Field(
        default_factory=GenerationSettings, description="How answers are written."
    )
    scorer: ReferenceScorer | None = Field(None, description="Model that judges the answers.")
    device: Device | None = Field(None, description=DEVICE)

    @model_validator(mode="after")
    def _has_prompts(self) -> Self:
        if bool(self.prompts) == (self.dataset is not None):
            text = "needs prompts, as a list or as a dataset, and not as both"
            raise PydanticCustomError("no_prompts", text, {"route": ("prompts",)})
        return self


class ServeStep(PipelineStep):
    """The config of `tunematrix serve`."""

    model: ModelFolder = Field(description="The model that it begins with.")
    prompts: Annotated[tuple[NonEmpty, ...], Strict(False)] = Field(
        ("Once upon a time",), min_length=1, description="What the server is asked."
    )
    max_tokens: int = Field(32, ge=1, description="Longest answer (tokens).")
    port: int = Field(0, ge=0, le=65535, description="Port of 127.0.0.1; 0 takes one that is free.")
    server_timeout: FloatLike = Field(
        120.0, gt=0, description="Seconds in which the server has to be ready."
    )
    stay: bool = Field(
        False, description="Whether it goes on serving once it has been tried, until Ctrl-C."
    )
    output_dir: str = Field("", description="Folder for what is merged to be served, and for logs.")
    scorer: ReferenceScorer | None = Field(None, description="Model that judges the answers.")
    inference: Inference | None = Field(
        None,
        description="A completion that is drawn, and its largest perplexity by the scorer; in the "
        "toy world, where none is named, by its base model.",
    )
    device: Device | None = Field(None, description=DEVICE)
