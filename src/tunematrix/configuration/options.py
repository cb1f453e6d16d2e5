"""The models of all axes' options: one for each config group, every key with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.declarations import Declarations
from tunematrix.configuration.section import Names, NonEmpty, Section
from tunematrix.configuration.theory import Theory
from tunematrix.configuration.trainer import Words

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
Counted: TypeAlias = Literal["all", "completion", "assistant"]
"""Which tokens of a row count in the loss."""
Form: TypeAlias = Literal["text", "unequal", "chat", "prompt-completion", "chat-completion"]


COUNTED: Mapping[Form, Counted] = {
    "text": "all",
    "unequal": "all",
    "chat": "assistant",
    "prompt-completion": "completion",
    "chat-completion": "completion",
}
"""What the loss counts of each form, in every engine."""


class ModelOption(Declarations):
    """A base model."""

    path: NonEmpty = Field(
        description="Folder of the checkpoint, or toyworld://NAME for a generated one."
    )


class DataOption(Declarations):
    """A form of training data."""

    form: Form = Field(description="Columns and content of a row of training data.")
    loss_on: Counted = Field(
        description="Tokens that count in the loss: all, the completion's or the assistant's."
    )
    packing: bool = Field(False, description="Whether several texts are packed into one row.")

    @model_validator(mode="after")
    def _counts_what_its_form_has(self) -> Self:
        """Trainers decide by the columns, and labels are judged by what counts in such a form."""
        if self.loss_on != (counted := COUNTED[self.form]):
            text = f"of the form {self.form}, {counted} counts; write {counted}, or another form"
            raise PydanticCustomError("loss_on", text, {"route": ("loss_on",)})
        return self


class LearningRates(Section):
    """A method's default learning rates, one for each kind of optimizer."""

    adaptive: float = Field(gt=0, description="Default learning rate with Adam or AdamW.")
    plain: float = Field(gt=0, description="Default learning rate with SGD.")


class MethodOption(Declarations):
    """The parameters that are trained, and their learning rates."""

    declares: ClassVar[frozenset[str]] = frozenset({"trains_base", "learning_rates"})

    trains_base: bool = Field(
        description="Whether all weights are trained; the base is then kept in full precision."
    )
    learning_rates: LearningRates = Field(
        description="Default learning rates; an override of train.learning_rate replaces them."
    )


class QuantizerOption(Declarations):
    """How the base model's weights are stored."""

    declares: ClassVar[frozenset[str]] = frozenset({"theory", "trains_otherwise", "trained"})

    theory: Theory | None = Field(
        None,
        description="Bits that it should store, and its error; `{}` for unchanged weights.",
    )
    trains_otherwise: bool = Field(
        False,
        description="Whether training computes a layer's product differently from evaluation, as "
        "bnb-int8 does on a CPU: it rounds the layer's inputs only in evaluation.",
    )
    trained: Mapping[str, Annotated[tuple[Dtype, ...], Strict(False)]] = Field(
        {},
        description="For each method, the dtypes it trains in, where they differ from the "
        "precision's.",
    )


class BackendOption(Declarations):
    """The hardware and library that compute."""

    declares: ClassVar[frozenset[str]] = frozenset(
        {"device", "gpu", "engine", "hides", "library", "preload", "canary", "qlora"}
    )

    device: NonEmpty = Field("cpu", description="Device name in its framework, such as cuda.")
    gpu: bool = Field(
        False, description="Whether it is a GPU; a spec's gpu_requirement asks for one."
    )
    engine: str = Field("", description="Package that holds the engine, as the class `Engine`.")
    max_grad_norm: float = Field(
        0, ge=0, description="Default of train.max_grad_norm on it; 0: gradients aren't clipped."
    )
    qlora: str = Field(
        "bnb-nf4",  # that of its paper, arXiv:2305.14314
        description="Quantizer of a step that trains by qlora and names none.",
    )
    lengths: Literal["", "exact", "mlx-lm"] = Field(
        "",
        description="MLX only: exact, or mlx-lm, whose lengths let some padding count in the loss.",
    )
    hides: Names = Field(
        (),
        description="Readings that its trainer can't give, such as `seed`: the checks that need "
        "them aren't made.",
    )
    library: str = Field(
        "",
        description="Beginning of the name of the shared library without which nothing computes on "
        "it, such as libmlx: a trainer's command has to load it.",
    )
    preload: Names = Field((), description="Modules that the fork server imports once.")
    canary: str = Field(
        "", description="package.module:function that tests whether forked processes work."
    )

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU of CUDA: nvidia-smi counts and measures it."""
        return self.device == "cuda"


class OptimizerOption(Declarations):
    """How gradients become updates."""

    declares: ClassVar[frozenset[str]] = frozenset({"rate"})

    rate: Literal["adaptive", "plain"] = Field(
        description="Which of a method's learning rates it takes."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment (Adam, AdamW).")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the second moment (Adam, AdamW).")
    eps: float = Field(1e-8, gt=0, description="Added to the divisor (Adam, AdamW).")
    momentum: float = Field(0, ge=0, lt=1, description="Momentum (SGD).")


class SchedulerOption(Declarations):
    """How the learning rate changes after the warm-up."""


class PrecisionOption(Declarations):
    """The dtypes that a cell stores, computes and trains in."""

    declares: ClassVar[frozenset[str]] = frozenset({"weights", "compute", "trained", "logit_error"})

    weights: Dtype = Field(
        description="Dtype of the base model's weights, unless they are trained."
    )
    compute: Dtype = Field(description="Dtype of matrix products.")
    trained: Dtype = Field(
        description="Dtype of trained weights, their gradients and the optimizer's moments."
    )
    logit_error: float = Field(
        ge=0, description="Relative error of the logits that rounding alone may cause."
    )


class LauncherOption(Declarations):
    """The processes that a cell computes in."""

    declares: ClassVar[frozenset[str]] = frozenset(
        {"shards", "collectives", "command", "starts_each"}
    )

    command: Words = Field(
        (),
        description="Words that begin a trainer's command, where it is the recipe: `{python}`, "
        "`{processes}` and `{rank_logs}` are filled in.",
    )
    starts_each: bool = Field(
        False,
        description="Whether each process is started by itself, with RANK, LOCAL_RANK, WORLD_SIZE, "
        "MASTER_ADDR and MASTER_PORT set; of a trainer's command alone.",
    )
    processes: int = Field(
        1, ge=1, description="Number of processes; each takes train.batch_size rows."
    )
    timeout: int = Field(60, ge=1, description="How long a process waits for the others (s).")
    shards: bool = Field(
        False, description="Whether each process holds only a share of every parameter."
    )
    collectives: Mapping[str, str] = Field(
        {},
        description="For each device, the library that processes communicate with, such as "
        "`cuda: nccl`.",
    )
    hash_seed: int | None = Field(
        None, ge=0, description="PYTHONHASHSEED of the new interpreter (fresh)."
    )

    @property
    def is_group(self) -> bool:
        """Whether its processes have to find each other: one alone would be no group."""
        return bool(self.collectives and self.implementation)

    @property
    def starts_one(self) -> bool:
        """Whether it starts no process beside the cell's own, whatever their number says."""
        return not (self.collectives or self.command or self.starts_each)


class RecipeOption(Declarations):
    """The work of a cell, and the groups of checks that it is judged by."""

    declares: ClassVar[frozenset[str]] = frozenset(
        {"owes", "sequences_per_row", "runs_command", "varies"}
    )

    runs_command: bool = Field(
        False,
        description="Whether its cells are the command of a trainer, which needs none of the "
        "backend's libraries in our own processes.",
    )
    varies: Names = Field(
        (), description="The axes that have an effect on its cells; none: all of them."
    )
    owes: Names = Field(
        (), description="Groups of checks that each of its cells is judged by, in this order."
    )
    sequences_per_row: int = Field(
        1, ge=1, description="Sequences that one row of data becomes; 2 for pairs of preferences."
    )

    @property
    def trains(self) -> bool:
        """Whether it trains through one of our engines, whose meters show how."""
        return "training" in self.owes

    @property
    def prefers(self) -> bool:
        """Whether it learns preferences, and not texts."""
        return "preferences" in self.owes


class AddedOption(Declarations):
    """An option of an axis that a project added: the common keys, and any of its own."""

    model_config = ConfigDict(extra="allow")


OPTION_MODELS: Mapping[str, type[Declarations]] = {
    "recipe": RecipeOption,
    "model": ModelOption,
    "data": DataOption,
    "method": MethodOption,
    "quantizer": QuantizerOption,
    "backend": BackendOption,
    "optimizer": OptimizerOption,
    "scheduler": SchedulerOption,
    "precision": PrecisionOption,
    "launcher": LauncherOption,
}
"""Axis to the model of its options; those of other axes are `AddedOption`."""
