"""The sections of cell.yaml that aren't axes: settings of a cell, every key with its unit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunematrix.configuration.options import Counted
from tunematrix.configuration.section import Section


class TrainSettings(Section):
    """Settings of training."""

    max_steps: int = Field(ge=1, description="Number of optimizer steps.")
    batch_size: int = Field(ge=1, description="Sequences in a micro-batch, in each process.")
    accumulation: int = Field(ge=1, description="Micro-batches in an optimizer step.")
    learning_rate: float = Field(
        ge=0,
        description="Learning rate after the warm-up; default: the method's, for the optimizer.",
    )
    warmup_steps: int = Field(
        ge=0, description="Steps in which the learning rate rises to its full value."
    )
    max_grad_norm: float = Field(
        ge=0, description="Gradients with a larger norm are clipped to it; 0: no clipping."
    )
    weight_decay: float = Field(ge=0, description="Weight decay, passed to the optimizer.")
    gradient_checkpointing: bool = Field(
        description="Whether activations are recomputed in the backward pass, to save memory."
    )
    checkpointing: Literal["non-reentrant", "library"] = Field(
        description="Kind of gradient checkpointing; library: transformers' own default."
    )
    max_length: int = Field(ge=2, description="Longest row that is trained on (tokens).")
    too_long: Literal["refuse", "cut"] = Field(
        description="What becomes of longer rows: the cell ends before it trains, or they are cut "
        "and lose their end tokens."
    )
    logging_steps: int = Field(ge=1, description="Steps between two lines of the trainer's log.")
    loss_on: Counted = Field(
        description="Tokens that count in the loss: all, the completion's or the assistant's."
    )
    label_smoothing: float = Field(
        ge=0,
        lt=1,
        description="Share of each label that is spread evenly over the vocabulary; 0: none.",
    )
    seed: int = Field(ge=0, description="Seed of all random choices.")
    rows: int = Field(ge=0, description="Rows of training data; 0: as many as the steps need.")
    streaming: bool = Field(
        description="Whether rows come from a stream, one after the other and not shuffled."
    )
    interrupt_at: int = Field(
        ge=0, description="Step after which training is stopped and resumed from disk; 0: never."
    )
    eval_steps: int = Field(
        ge=0, description="Steps between the trainer's own evaluations; 0: no evaluations."
    )
    load_best: bool = Field(
        description="Whether training ends with the checkpoint whose evaluation has least loss."
    )
    compile: Literal["none", "aot_eager"] = Field(
        description=(
            "Backend of torch.compile for what trains; none: it isn't compiled. Its default, "
            "inductor, takes minutes for a cell."
        )
    )
    padding: Literal["pad", "eos", "free"] = Field(
        description="Token that rows are padded with: the pad or the end token; free: none, rows "
        "stand one after the other in a single one, and positions tell them apart."
    )
    end_token: Literal["trainer", "row"] = Field(
        description="Where a text's end token comes from: the trainer, or the row of data itself."
    )
    adapter_start: Literal["library", "drawn"] = Field(
        description="Initial adapters: the library's own, or drawn from the names of their layers."
    )
    threads: int = Field(ge=1, description="Threads of each process.")

    @property
    def is_compiled(self) -> bool:
        """Whether what trains is compiled, so that nobody can look into it as it runs."""
        return self.compile != "none"

    @property
    def is_flat(self) -> bool:
        """Whether the rows of a batch stand one after the other in one."""
        return self.padding == "free"

    @property
    def longest(self) -> int | None:
        """The length that rows are cut to; None where none may be cut."""
        return self.max_length if self.too_long == "cut" else None


class DpoSettings(Section):
    """Settings of the recipe dpo."""

    beta: float = Field(gt=0, description="Weight of the distance to the reference model.")
    lengths: Literal["equal", "unequal"] = Field(
        description="Of a pair's completions: `equal`, or one of them tells one story more."
    )


class GenerateSettings(Section):
    """Settings of the recipe generate."""

    prompts: int = Field(
        ge=1, description="Number of prompts: beginnings of stories that the base model knows."
    )
    most: int = Field(ge=1, description="Longest generated text (tokens).")
    temperature: float = Field(
        gt=0, description="Temperature of sampled texts; greedy texts are always generated, too."
    )


class MeterSettings(Section):
    """Measurements that cost more and are made where a spec asks for them."""

    held_out_rows: int = Field(
        ge=1, description="Held-out stories over which gap_closed is measured."
    )
    allocator: bool = Field(
        description="Whether the allocator's peak is measured, in a separate pass."
    )
    merge: bool = Field(
        description="Whether the adapter is also merged, and the merged model saved and loaded."
    )
    adapters: bool = Field(
        description="Whether a saved adapter is switched, renamed and combined as well."
    )
    tensors: bool = Field(
        description="Whether gradients and parameters are kept for relations to compare."
    )
    loaders: bool = Field(description="Whether the saved files are loaded in every supported way.")
    dequantized: bool = Field(
        description="Whether the base model's logits are computed from dequantized weights, too."
    )
