"""Faults whose effect is below 2 %: a row in fifty, a step in twenty, one tensor by one per cent.

No loss shows them. They stand for no release in particular: what is wrong by a lot is noticed by
somebody, what is wrong by a little stays for years.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from hqq.core.quantize import Quantizer
from peft import peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from transformers import GenerationMixin, Trainer, modeling_utils
from transformers.generation.logits_process import TemperatureLogitsWarper
from trl import DPOTrainer, SFTTrainer
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

MORE = 1.01
RARELY = 20
"""Steps, of which one is wrong."""
ODD = 7
"""The first of them, from 1: none that is at the beginning, in the middle or at the end."""
HQQ = ("lora[*-lora-hqq-int4]",)
FEW = 50
"""Rows, of which one is wrong."""


@fault("data", replaces=(Dataset, "from_list"), subtle=True)
def one_row_in_fifty_twice(original: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
    """Take the row before in the place of each fiftieth one."""
    found = [rows[at - 1] if at % FEW == FEW // 2 else row for at, row in enumerate(rows)]
    return original(found, *args, **kwargs)


@fault("labels", replaces=(DataCollatorForLanguageModeling, "torch_call"), subtle=True)
def one_label_in_fifty_rows_ignored(
    original: Any, collator: Any, examples: Any, *, call: int
) -> Any:
    """Leave a single token out of the loss, in one batch of six."""
    batch = original(collator, examples)
    if call % (FEW // 8) == 1:
        batch["labels"][0, batch["labels"].shape[1] // 3] = -100
    return batch


@fault("tokenizer", replaces=(sft_trainer, "_tokenize"), subtle=True)
def one_word_in_fifty_texts(original: Any, *args: Any, call: int, **kwargs: Any) -> Any:
    """Take another word for the fifth token of each fiftieth text."""
    tokens = dict(original(*args, **kwargs))
    ids = list(tokens["input_ids"])
    if call % FEW == FEW // 2:
        ids[4] = ids[5]
    return {**tokens, "input_ids": ids}


@fault("loss", replaces=(SFTTrainer, "compute_loss"), subtle=True)
def loss_half_a_percent_off(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Make the loss, and with it each gradient, half a per cent too large."""
    found = original(*args, **kwargs)
    if isinstance(found, tuple):
        return (found[0] * 1.005, *found[1:])
    return found * 1.005


@fault("gradients", subtle=True)
def one_tensor_in_one_step_of_twenty(config: Configuration) -> Iterator[None]:
    """Make the gradient of one tensor 1 % larger, in one step of twenty."""
    steps = 0

    def before(optimizer: Optimizer, *_: Any) -> None:
        nonlocal steps
        steps += 1
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if steps % RARELY == ODD and parameters[0].grad is not None:
            parameters[0].grad.mul_(MORE)

    handle = register_optimizer_step_pre_hook(before)
    yield
    handle.remove()


@fault(
    "gradients",
    replaces=(nn.Embedding, "forward"),
    seen_by=("full[*-full-none]", "parity[*]"),
    subtle=True,
)
def one_percent_for_one_layer(original: Any, layer: Any, *args: Any) -> Any:
    """Pass gradients back 1 % too large to the embeddings, which compute what they should."""
    out = original(layer, *args)
    return out.detach() + (out - out.detach()) * MORE if out.requires_grad else out


@fault("accumulation", replaces=(torch.Tensor, "backward"), subtle=True)
def last_micro_batch_counts_less(
    original: Any, loss: Any, *args: Any, config: Configuration, call: int, **kwargs: Any
) -> None:
    """Let the last micro-batch of each step bring 1 % less than the others."""
    size = config.train.accumulation
    original(loss * 0.99 if size > 1 and call % size == 0 else loss, *args, **kwargs)


@fault("optimizer", replaces=(torch.optim.AdamW, "__init__"), subtle=True)
def beta2_off_by_a_thousandth(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
    """Build AdamW with a second beta of 0.998 in place of 0.999."""
    first, second = kwargs.get("betas", (0.9, 0.999))
    original(optimizer, *args, **{**kwargs, "betas": (first, second - 0.001)})


@fault("optimizer", replaces=(torch.optim.AdamW, "step"), subtle=True)
def one_step_in_twenty_longer(
    original: Any, optimizer: Any, *args: Any, call: int, **kwargs: Any
) -> Any:
    """Go 1 % further in one step of twenty, at a rate that reads as it should."""
    rates = [group["lr"] for group in optimizer.param_groups]
    if call % RARELY == ODD:
        for group in optimizer.param_groups:
            group["lr"] *= MORE
    found = original(optimizer, *args, **kwargs)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return found


@fault("scheduler", replaces=(LambdaLR, "__init__"), subtle=True)
def one_rate_in_twenty(
    original: Any, schedule: Any, optimizer: Any, rate: Any, last_epoch: int = -1
) -> None:
    """Make one rate of twenty 1 % too large."""

    def off(step: int) -> float:
        return rate(step) * (MORE if step % RARELY == ODD else 1.0)

    original(schedule, optimizer, off, last_epoch)


@fault("precision", replaces=(nn.Linear, "forward"), subtle=True)
def last_layer_in_bfloat16(original: Any, layer: Any, rows: Any) -> Any:
    """Round to bfloat16 what the layers that narrow give, in training alone."""
    out = original(layer, rows)
    narrows = layer.training and layer.out_features < layer.in_features
    return out.bfloat16().to(out.dtype) if narrows else out


@fault("adapter", replaces=(LoraLayer, "update_layer"), subtle=True)
def one_scale_by_one_percent(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Scale the adapters of layers that widen by 1 % more than alpha / rank."""
    original(layer, *args, **kwargs)
    if layer.out_features > layer.in_features:
        layer.scaling = {name: scale * MORE for name, scale in layer.scaling.items()}


@fault("quantizer", replaces=(Quantizer, "quantize"), seen_by=HQQ, subtle=True)
def one_scale_of_a_group(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Make the scale of one group of each weight 1 % larger."""
    packed, meta = original(*args, **kwargs)
    meta["scale"].view(-1)[0] *= MORE
    return packed, meta


@fault("distribution", replaces=(torch.Tensor, "backward"), subtle=True)
def one_rank_counts_more(original: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
    """Let the second process bring 1 % more to the average than the first."""
    original(loss * MORE if os.environ.get("RANK") == "1" else loss, *args, **kwargs)


@fault("process", replaces=(Trainer, "training_step"), seen_by=("dropout[*-lora]",), subtle=True)
def one_mask_in_twenty_again(original: Any, *args: Any, call: int, **kwargs: Any) -> Any:
    """Draw the same masks as in the step before, in one step of twenty."""
    if call % RARELY == ODD - 1:
        torch.manual_seed(call)
    if call % RARELY == ODD:
        torch.manual_seed(call - 1)
    return original(*args, **kwargs)


@fault("checkpoint", subtle=True)
def one_tensor_saved_one_percent_off(config: Configuration) -> Iterator[None]:
    """Save one tensor 1 % larger than it is."""

    def wrap(original: Any) -> Any:
        def save(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            name = sorted(tensors)[0]
            return original({**tensors, name: tensors[name] * MORE}, *args, **kwargs)

        return save

    with (
        replaced(peft_model, "safe_save_file", wrap),
        replaced(modeling_utils, "safe_save_file", wrap),
    ):
        yield


@fault("resume", replaces=(torch.optim.Optimizer, "load_state_dict"), subtle=True)
def moments_one_percent_smaller(original: Any, optimizer: Any, state: Any) -> Any:
    """Resume with first moments that are 1 % smaller than they were."""
    original(optimizer, state)
    for kept in optimizer.state.values():
        if "exp_avg" in kept:
            kept["exp_avg"].mul_(0.99)


@fault("generation", replaces=(GenerationMixin, "_get_logits_processor"), subtle=True, fitted=True)
def one_percent_warmer(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draw at a temperature that is 1 % higher than was asked for."""
    processors = original(model, generation_config, *args, **kwargs)
    if generation_config.do_sample:
        processors.append(TemperatureLogitsWarper(MORE))
    return processors


@fault("alignment", replaces=(DPOTrainer, "__init__"), subtle=True)
def beta_one_percent_larger(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Weigh the distance to the reference by a beta that is 1 % too large."""
    original(trainer, *args, **kwargs)
    trainer.beta *= MORE


@fault("device", replaces=(nn.functional, "silu"), subtle=True)
def activations_half_a_percent_off(original: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute the decoder's activations half a per cent too large, in training alone."""
    out = original(rows, *args, **kwargs)
    return out * 1.005 if torch.is_grad_enabled() and rows.requires_grad else out


@fault("logging", replaces=(Trainer, "log"), subtle=True)
def one_line_in_twenty_repeated(
    original: Any, trainer: Any, logs: Any, *args: Any, **kwargs: Any
) -> None:
    """Log one loss of twenty as it was in the step before."""
    at = trainer.state.global_step
    if "loss" in logs and at % RARELY == ODD and trainer.state.log_history:
        logs = {**logs, "loss": trainer.state.log_history[-1].get("loss", logs["loss"])}
    original(trainer, logs, *args, **kwargs)


@fault("logging", replaces=(Trainer, "log"), subtle=True)
def losses_half_a_percent_lower(
    original: Any, trainer: Any, logs: Any, *args: Any, **kwargs: Any
) -> None:
    """Log losses that are half a per cent lower than they were."""
    if "loss" in logs:
        logs = {**logs, "loss": logs["loss"] * 0.995}
    original(trainer, logs, *args, **kwargs)


@fault("configuration", replaces=(Trainer, "__init__"), subtle=True)
def clipped_at_one_percent_more(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Clip gradients at a limit that is 1 % higher than was asked for."""
    original(trainer, *args, **kwargs)
    trainer.args.max_grad_norm = (trainer.args.max_grad_norm or 0.0) * MORE
