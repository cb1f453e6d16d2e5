"""What the steps of a pipeline are told: the configs of download, sft, dpo, finalize and so on.

The names are those that users' configs have. A step reads files and writes files; texts may hold
`{variables}`, which are filled in before a step begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from tunematrix.configuration.answers import GenerateStep, ServeStep
from tunematrix.configuration.download import DownloadStep
from tunematrix.configuration.inputs import (
    DEVICE,
    Device,
    FloatLike,
    ModelFolder,
    PreferenceDataset,
    TextDataset,
)
from tunematrix.configuration.section import PipelineStep, Section
from tunematrix.configuration.trainer import Inference


class LoraSettings(Section):
    """A low-rank adapter on every linear layer of the decoder."""

    rank: int = Field(8, ge=1, description="Rank of its two factors.")
    alpha: FloatLike = Field(16.0, gt=0, description="Its product is scaled by alpha / rank.")
    dropout: FloatLike = Field(0.0, ge=0, lt=1, description="Share of its inputs that is dropped.")


class StepTraining(Section):
    """What training is told, whatever it trains on."""

    max_steps: int = Field(ge=1, description="Number of optimizer steps.")
    batch_size: int = Field(1, ge=1, description="Rows in a micro-batch.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Micro-batches in an optimizer step."
    )
    learning_rate: FloatLike = Field(2e-4, gt=0, description="Learning rate after the warm-up.")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate goes on after the warm-up."
    )
    warmup_steps: int = Field(
        0, ge=0, description="Steps in which the learning rate rises to its full value."
    )
    weight_decay: FloatLike = Field(0.0, ge=0, description="Weight decay of AdamW.")
    max_grad_norm: FloatLike | None = Field(
        None,
        ge=0,
        description="Gradients with a larger norm are clipped to it; 0: no clipping. By default 1, "
        "and 0 on mlx, whose trainer clips nothing.",
    )
    max_seq_length: int = Field(1024, ge=2, description="Longer rows are cut to it (tokens).")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of the base model's weights."
    )
    quantizer: str = Field(
        "",
        description="How the base's weights are stored: an option of the axis quantizer, such as "
        "bnb-nf4. A spec leaves it out: there it is the cell's.",
    )
    lora: LoraSettings = Field(default_factory=LoraSettings, description="The adapter.")
    seed: int = Field(0, ge=0, description="Seed of all random choices.")
    threads: int = Field(0, ge=0, description="Threads on a CPU; 0: as many as it has cores.")
    save_steps: int = Field(
        0, ge=0, description="Steps between two checkpoints; 0: one at the end alone."
    )
    output_dir: str = Field(
        "", description="Folder that gets the checkpoints and, at the end, what was trained."
    )


class SftTraining(StepTraining):
    """The section `training` of a config of `tunematrix sft`."""

    method: Literal["lora", "qlora", "full"] = Field(
        "lora",
        description="What is trained: an adapter, an adapter over a quantized base, or everything.",
    )


class DpoAlignment(StepTraining):
    """The section `alignment` of a config of `tunematrix dpo`."""

    method: Literal["dpo"] = Field("dpo", description="How it is aligned.")
    learning_rate: FloatLike = Field(5e-5, gt=0, description="Learning rate after the warm-up.")
    beta: FloatLike = Field(
        0.1, gt=0, description="Weight of the distance to the model that it begins with."
    )
    adapter: Literal["continue", "merge"] = Field(
        "continue",
        description="What becomes of an adapter that it begins with: it is trained on, or merged "
        "into its base below a new one.",
    )


class SftExpectations(Section):
    """What fine-tuning has to come to."""

    loss_max: FloatLike | None = Field(
        None, gt=0, description="Largest logged loss at the end (nats per token)."
    )


class DpoExpectations(Section):
    """What aligning has to come to."""

    preference_min: FloatLike | None = Field(
        None,
        ge=0,
        le=1,
        description="Least mean probability of the chosen answer, of the two, at the end.",
    )


class SftStep(PipelineStep):
    """The config of `tunematrix sft`."""

    section: ClassVar[str] = "training"

    model: ModelFolder = Field(description="The model that it begins with.")
    dataset: TextDataset = Field(description="What it is trained on.")
    training: SftTraining = Field(description="How it is trained.")
    device: Device | None = Field(None, description=DEVICE)
    expect: SftExpectations = Field(
        default_factory=SftExpectations, description="What it has to come to."
    )


class DpoStep(PipelineStep):
    """The config of `tunematrix dpo`."""

    section: ClassVar[str] = "alignment"

    model: ModelFolder = Field(description="The model that it begins with.")
    dataset: PreferenceDataset = Field(description="What it is trained on.")
    alignment: DpoAlignment = Field(description="How it is aligned.")
    device: Device | None = Field(None, description=DEVICE)
    expect: DpoExpectations = Field(
        default_factory=DpoExpectations, description="What it has to come to."
    )


class ExportSettings(Section):
    """The section `export` of a config of `tunematrix finalize`."""

    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of the weights that aren't quantized."
    )
    quantizer: str = Field(
        "",
        description="How the weights of linear layers are stored: none, bnb-nf4, bnb-int8, "
        "torchao-int4 or torchao-int8. A spec leaves it out: there it is the cell's.",
    )
    threads: int = Field(0, ge=0, description="Threads on a CPU; 0: as many as it has cores.")
    output_dir: str = Field("", description="Folder that gets the model, with its tokenizer.")


class FinalizeStep(PipelineStep):
    """The config of `tunematrix finalize`."""

    section: ClassVar[str] = "export"

    model: ModelFolder = Field(description="The model that it begins with.")
    export: ExportSettings = Field(default_factory=ExportSettings, description="How it is written.")
    device: Device | None = Field(None, description=DEVICE)


class PipelineSteps(Section):
    """The steps of a pipeline, each where it is named; they are taken in this order."""

    download: DownloadStep | None = Field(None, description="Fetching models from the Hub.")
    sft: SftStep | None = Field(None, description="Fine-tuning.")
    dpo: DpoStep | None = Field(None, description="Aligning.")
    finalize: FinalizeStep | None = Field(None, description="Merging, quantizing and exporting.")
    generate: GenerateStep | None = Field(None, description="Writing answers.")
    serve: ServeStep | None = Field(None, description="Serving.")
    resume: str = Field(
        "", description="Checkpoint that training goes on from: its folder, or latest."
    )
    dry_run: bool = Field(
        False, description="Whether everything is read and checked, and nothing trained or written."
    )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Name the steps that there can be, in the order in which they are taken."""
        return tuple(name for name, field in cls.model_fields.items() if field.default is None)

    def answering(self, inference: Inference) -> PipelineSteps | None:
        """Return these steps with a server that gives a completion; None if there is no model.

        It serves what the last step has left that leaves a model, if no step serves already.
        """
        models = [name for name in ("finalize", "dpo", "sft") if getattr(self, name) is not None]
        if self.serve is not None:
            serve = self.serve.model_copy(update={"inference": inference})
        elif models:
            serve = ServeStep(
                model=ModelFolder(path=f"{{{models[0]}}}"),
                prompts=(inference.prompt,),
                max_tokens=inference.max_tokens,
                server_timeout=inference.server_timeout,
                inference=inference,
            )
        else:
            return None
        return self.model_copy(update={"serve": serve})

    @property
    def taken(self) -> Mapping[str, PipelineStep]:
        """The steps that there are, by their names, in that order."""
        given = {name: getattr(self, name) for name in self.names()}
        return {name: one for name, one in given.items() if one is not None}
