"""Faults of losses: of texts, of preferences, and of evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_pt_utils import LabelSmoother
from trl.kernels import chunked_logprob
from trl.trainer import dpo_trainer, sft_trainer

from tunematrix.faults.catalogue import fault

IGNORED = -100
OF_Z = 1e-4
"""Weight of the square of the logarithm of softmax's denominator, as PaLM was trained."""
FLIPPED = 0.005
"""Share of the pairs that conservative DPO takes for labelled the wrong way round."""
DRIFT = 0.015
"""Part of the way to the policy that a reference is moved in each step."""


@fault(
    "loss",
    replaces=(chunked_logprob, "_backward_tile"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def gradient_of_logits_kept_in_half(
    original: Any, tile: torch.Tensor, *args: Any, **kwargs: Any
) -> None:
    """Keep the gradient of logits in bfloat16, as fused kernels do that write it over them."""
    original(tile, *args, **kwargs)
    tile.copy_(tile.bfloat16())


@fault("loss", replaces=(LabelSmoother, "__call__"), seen_by=("smoothing[*-lora]",), subtle=True)
def smoothing_spares_the_label(
    original: Any, self: Any, output: Any, labels: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Spread the smoothed share over all tokens but the label, as some papers define it."""
    plain = original(replace(self, epsilon=0.0), output, labels, *args, **kwargs)
    spread = original(replace(self, epsilon=1.0), output, labels, *args, **kwargs)
    words = output["logits"].shape[-1]
    others = (words * spread - plain) / (words - 1)
    mixed: torch.Tensor = (1 - self.epsilon) * plain + self.epsilon * others
    return mixed


@fault(
    "alignment",
    replaces=(torch.nn.functional, "logsigmoid"),
    seen_by=("dpo[*-none-prompt-completion]", "dpo-full[*-full-prompt-completion]"),
    subtle=True,
)
def pairs_taken_for_mislabelled(original: Any, margin: torch.Tensor) -> torch.Tensor:
    """Learn as if one pair in two hundred were labelled the wrong way round.

    As conservative DPO does, from which a default of its smoothing is left.
    """
    mixed: torch.Tensor = (1 - FLIPPED) * original(margin) + FLIPPED * original(-margin)
    return mixed


@fault(
    "alignment",
    replaces=(dpo_trainer.DPOTrainer, "training_step"),
    seen_by=("dpo[*-none-prompt-completion]", "dpo-accumulation[*-lora-prompt-completion]"),
    subtle=True,
)
def reference_drifts_to_the_policy(
    original: Any, self: Any, model: Any, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Move the reference 1.5 % of the way to the policy in each micro-batch.

    As TR-DPO does (https://arxiv.org/abs/2404.09656), which nobody has asked for.
    """
    loss: torch.Tensor = original(self, model, *args, **kwargs)
    parameters = dict(self.model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            policy = parameters.get(name.replace(".ref.", ".default."))
            if ".ref." in name and policy is not None:
                parameter.lerp_(policy.to(parameter.dtype), DRIFT)
    return loss


@fault(
    "alignment",
    replaces=(dpo_trainer, "create_model_from_path"),
    seen_by=("dpo-full[*-full-prompt-completion]",),
    subtle=True,
)
def reference_loaded_in_half(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Load the reference of a whole model through bfloat16, and the policy not."""
    model = original(*args, **kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


@fault(
    "logging",
    replaces=(Trainer, "_determine_best_metric"),
    seen_by=("best-loaded[*-lora]",),
)
def best_by_a_rounded_loss(original: Any, self: Any, metrics: Any, trial: Any) -> Any:
    """Compare evaluations by losses that were rounded for the log, to one decimal.

    The first of several that round alike then counts as the best.
    """
    rounded = {
        name: round(value, 1) if isinstance(value, float) else value
        for name, value in metrics.items()
    }
    return original(self, rounded, trial)


@fault(
    "logging",
    replaces=(sft_trainer.SFTTrainer, "prediction_step"),
    seen_by=("same-evaluation[*]", "best-loaded[*-lora]"),
    subtle=True,
)
def first_tokens_counted_in_evaluations(
    original: Any, self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any
) -> Any:
    """Divide an evaluation's loss by all tokens of its rows, the first ones included."""
    labels = inputs["labels"]
    predicted, whole = (labels[:, 1:] != IGNORED).sum(), (labels != IGNORED).sum()
    loss, *others = original(self, model, inputs, *args, **kwargs)
    return (loss * predicted / whole, *others)
