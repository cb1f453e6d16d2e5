"""What all training loops are told: one frozen description, and the optimizer it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.options import DataOption, OptimizerOption
from tunematrix.configuration.settings import DpoSettings, TrainSettings
from tunematrix.evidence.events import LoggedEvaluation, LoggedPreference, LoggedStep
from tunematrix.stack.engines.examples import Example

WriteLine = Callable[[LoggedStep | LoggedEvaluation | LoggedPreference], None]
"""Takes each line that a loop logs."""

OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


CHECKPOINTING: Mapping[str, dict[str, bool] | None] = {
    "non-reentrant": {"use_reentrant": False},
    "library": None,
}


@dataclass
class Stopwatch:
    """Adds up wall time while it runs.

    Attributes:
        seconds: so far.
    """

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure meanwhile."""
        started = perf_counter()
        yield
        self.seconds += perf_counter() - started


@dataclass(frozen=True)
class TorchTraining:
    """One training run, for any loop.

    Attributes:
        settings: the cell's `train` section.
        optimizer, data: their options, whole; scheduler: the name of its option.
        dpo: the cell's `dpo` section.
        rows: dataset rows as TRL takes them; examples: the same rows, tokenized by us.
        held_out: rows that are never trained on, in the same form.
        tokenizer: the checkpoint's.
        compute: dtype name of the arithmetic; autocast provides any but float32.
        device: PyTorch's name of it; device_settings: what keeps Trainer on it.
        output: folder for the trainer's own files.
        idle: time that the loop spends between two stretches of training.
    """

    settings: TrainSettings
    optimizer: OptimizerOption
    scheduler: str
    data: DataOption
    dpo: DpoSettings
    rows: Sequence[Mapping[str, Any]]
    examples: Sequence[Example]
    held_out: Sequence[Mapping[str, Any]]
    tokenizer: PreTrainedTokenizerBase
    compute: str
    device: str
    device_settings: Mapping[str, Any]
    output: Path
    idle: Stopwatch = field(default_factory=Stopwatch)

    def optimizer_class(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return the optimizer's class and its arguments.

        Trainer takes both as they are: its own learning_rate never reaches such an optimizer.
        """
        kind, rate = self.optimizer.name, self.settings.learning_rate
        if kind == "sgd":
            return OPTIMIZERS[kind], {"lr": rate, "momentum": self.optimizer.momentum}
        betas = (self.optimizer.beta1, self.optimizer.beta2)
        return OPTIMIZERS[kind], {"lr": rate, "betas": betas, "eps": self.optimizer.eps}

    def checkpointing_kwargs(self) -> dict[str, bool] | None:
        """Return how activations are computed again; None leaves that to the library."""
        return CHECKPOINTING[self.settings.checkpointing]

    def scheduler_name(self) -> str:
        """Return transformers' name for the schedule; its "constant" knows no warm-up."""
        warm = self.settings.warmup_steps > 0
        return "constant_with_warmup" if warm and self.scheduler == "constant" else self.scheduler
