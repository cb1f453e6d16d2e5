"""Losses and gradients of some steps, recomputed from the batches that entered the model.

Nothing of the trainer takes part: the cross-entropy is written out, the gradient comes from
`torch.autograd.grad`, the divisor is counted and the clipping done here. So a backward pass, a
divisor, a micro-batch or a limit that isn't what it should be shows in what the optimizer gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import StepLoss
from tunematrix.stack.engines.examples import IGNORED
from tunematrix.stack.engines.torch import ranks, scoring
from tunematrix.stack.engines.torch.shards import whole
from tunematrix.stack.yardsticks.audit import (
    AUDITED_ELEMENTS,
    SAMPLED_ELEMENTS,
    audited_steps,
    within,
)
from tunematrix.stack.yardsticks.blame import passing
from tunematrix.stack.yardsticks.process_memory import hand_back

SMALL = 1e-3
"""A tensor whose largest gradient is a smaller share of the step's largest than this is held to
that share: the bias of attention's keys has a gradient that is nothing but rounding."""
CLIPPED = 1e-6
"""What PyTorch adds to a norm before it divides by it."""
ENTERING = ("input_ids", "attention_mask", "position_ids", "output_router_logits")


@dataclass(frozen=True)
class Comparison:
    """The gradients of a step beside our own; None where none were taken.

    Attributes:
        error: largest difference, over the largest value, of the worst tensor.
        norm: of our own before they are cut, if all are followed.
        factor: if not, how often our own go into the part of the optimizer's that points their way.
        lost: by how much our own differ from those of a loss as small as the trainer's, in float16.
    """

    error: float | None = None
    norm: float | None = None
    factor: float | None = None
    lost: float = 0.0


class GradientAudit:
    """Recomputes the first step and the last; calls the model itself.

    Where more than `AUDITED_ELEMENTS` train, it follows tensors of `SAMPLED_ELEMENTS` together. How
    short the gradient was to be cut can't be told from those: the factor is left for the check.

    Args:
        config: the cell's; write: takes each step's loss.
        model: what computes, with whole parameters, whatever its trainer made of it.
        refresh: brings the parameters of `model` up to date.
    """

    def __init__(
        self,
        config: Configuration,
        model: nn.Module,
        refresh: Callable[[], None],
        write: Callable[[StepLoss], None],
    ) -> None:
        self.steps = audited_steps(config.train.max_steps)
        self.smoothing = config.train.label_smoothing
        self.limit = config.train.max_grad_norm or math.inf
        self.model, self.refresh, self.write = model, refresh, write
        self.checkpointing = _checkpointing(model)
        self.is_small = sum(p.numel() for p in model.parameters()) <= AUDITED_ELEMENTS
        drops = float(config.method.implementation.get("dropout", 0.0)) > 0
        self.as_used = not (drops or config.quantizer.trains_otherwise)
        # On a GPU, trainers scale a loss up before they differentiate it in float16.
        self.loses = config.precision.compute == "float16" and config.backend.device != "cuda"
        self.accumulation = config.train.accumulation
        self.sums: dict[str, torch.Tensor] = {}
        self.smaller: dict[str, torch.Tensor] = {}
        self.nats, self.tokens = 0.0, 0

    def look(self, model: nn.Module, inputs: dict[str, Any], step: int) -> None:
        """Add one training pass: the draws that it is about to make are made here as well."""
        if step not in self.steps:
            return
        self.refresh()
        parameters = dict(followed(self.model))
        entering = {name: inputs[name] for name in ENTERING if inputs.get(name) is not None}
        device = inputs["input_ids"].device
        with _same_draws(device), torch.enable_grad(), self._as_used():
            logits = passing(self.model, **entering, use_cache=False).logits
            nats, tokens = cross_entropy(logits, inputs["labels"], self.smoothing)
            with torch.autocast(device.type, enabled=False):
                if self.loses:
                    self._differentiate_as_small(nats, tokens, parameters)
                found = _differentiated(nats, list(parameters.values()))
        # Weights that autocast has lowered here would be taken for those of the training pass.
        torch.clear_autocast_cache()
        self.nats += float(nats.detach())
        self.tokens += tokens
        _add(self.sums, parameters, found)
        del logits, nats, found
        if not self.is_small:
            # Kept by malloc, what was freed would show in the process's peak; of a small model,
            # the pass that follows takes it.
            hand_back()

    def _differentiate_as_small(
        self, nats: torch.Tensor, tokens: int, parameters: Mapping[str, nn.Parameter]
    ) -> None:
        """Add the gradient of about the mean, as a trainer takes it: what is small gets lost."""
        share = 1 / max(tokens * self.accumulation, 1)
        found = _differentiated(nats * share, list(parameters.values()), keep=True)
        _add(self.smaller, parameters, found, 1 / share)

    @contextmanager
    def _as_used(self) -> Iterator[None]:
        """Compute as the model will when training is over, unless something says it can't."""
        with ExitStack() as stack:
            if self.is_small:
                stack.enter_context(_switched_off(self.checkpointing))
            if self.as_used:
                stack.enter_context(scoring.evaluating(self.model))
                stack.enter_context(scoring.asking(self.model))
            yield

    def compare(self, model: nn.Module, optimized: set[int]) -> Comparison:
        """Hold the gradients of `model` against our own.

        `optimized` has the ids of those parameters that the optimizer knows. Every process has to
        ask.
        """
        if not self.sums:
            return Comparison()
        own = self._due()
        got = {
            name: whole(p.grad.detach()).float()
            for name, p in model.named_parameters()
            if name in own and p.grad is not None and id(p) in optimized
        }
        if (norm := self._norm(own)) is None:
            projected = _projected(got, own)
            factor = min(1.0, projected)
        else:
            projected, factor = None, min(1.0, _cut(norm, self.limit))
        lost = _worst(self.smaller, self.sums, 1.0) if self.smaller else 0.0
        return Comparison(_worst(got, own, factor), norm, projected, lost)

    def stepped(self, step: int) -> None:
        """Write a step's loss, over all processes, and forget the step."""
        if self.sums:
            device = next(self.model.parameters()).device.type
            tokens = ranks.total(self.tokens, device)
            nats = ranks.total(self.nats, device)
            self.write(StepLoss(step, nats / max(tokens, 1), int(tokens)))
        self.sums, self.smaller, self.nats, self.tokens = {}, {}, 0.0, 0

    def _due(self) -> dict[str, torch.Tensor]:
        """Return the gradient of the mean nats over all counted tokens of all processes."""
        device = next(iter(self.sums.values())).device.type
        tokens = ranks.total(self.tokens, device)
        own = {name: gradient / tokens for name, gradient in self.sums.items()}
        if ranks.are_many():
            for gradient in own.values():
                distributed.all_reduce(gradient)
        return own

    def _norm(self, own: Mapping[str, torch.Tensor]) -> float | None:
        if sum(1 for p in self.model.parameters() if p.requires_grad) > len(own):
            return None
        return float(torch.stack(torch._foreach_norm(list(own.values()))).norm())


def _add(
    sums: dict[str, torch.Tensor],
    parameters: Mapping[str, nn.Parameter],
    gradients: Sequence[torch.Tensor | None],
    factor: float = 1.0,
) -> None:
    """Add so many times the gradients to sums, in float32; one that wasn't taken is zero."""
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        new = (torch.zeros_like(parameter) if gradient is None else gradient).detach().float()
        new = new * factor
        sums[name] = sums[name] + new if name in sums else new


def _differentiated(
    nats: torch.Tensor, parameters: Sequence[nn.Parameter], *, keep: bool = False
) -> tuple[torch.Tensor | None, ...]:
    """Return the gradient for each parameter; none at all where nothing can be differentiated."""
    if not (parameters and nats.requires_grad):
        return (None,) * len(parameters)
    return passing(torch.autograd.grad, nats, parameters, allow_unused=True, retain_graph=keep)


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, int]:
    """Return (summed nats, counted tokens) of a batch, by the definition.

    Smoothed, a share of each token's label is spread evenly over the vocabulary
    (arXiv:1512.00567).
    """
    targets, scores = labels[:, 1:], logits[:, :-1].float()
    counted = targets != IGNORED
    chosen = scores.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    aimed = chosen if not smoothing else torch.lerp(chosen, scores.mean(dim=-1), smoothing)
    nats = (scores.logsumexp(dim=-1) - aimed)[counted].sum()
    return nats, int(counted.sum())


def followed(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the trained parameters that are looked at, by their names: of a large model, some."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    whole_model = sum(p.numel() for _, p in trained) <= AUDITED_ELEMENTS
    budget = AUDITED_ELEMENTS if whole_model else SAMPLED_ELEMENTS
    yield from within(budget, trained, lambda one: one[1].numel())


def _cut(norm: float, limit: float) -> float:
    """Return what clipping multiplies a gradient with where it is longer than `limit`."""
    return limit / (norm + CLIPPED)


def _projected(got: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> float:
    """Return how often our own gradients go into the part of `got` that points their way."""
    product = sum(float((own[name] * g).sum()) for name, g in got.items())
    square = sum(float((g * g).sum()) for g in own.values())
    return product / square if square else math.nan


def _worst(
    got: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], factor: float
) -> float:
    """Return the largest difference of `got` from `factor` times `own`, as a share, by tensor."""
    due = torch._foreach_mul(list(own.values()), factor)
    found = [got[name] if name in got else torch.zeros_like(one) for name, one in own.items()]
    errors, sizes = _largest(torch._foreach_sub(found, due)), _largest(due)
    sizes = sizes.clamp(min=SMALL * float(sizes.max()))
    shares = torch.where((errors == 0) & (sizes == 0), 0.0, errors / sizes)
    # A tensor's maximum keeps a nan, Python's may lose it.
    return float(shares.max())


def _largest(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the largest magnitude in each tensor, (tensors,)."""
    return torch.stack(torch._foreach_norm(tensors, math.inf))


@contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    """Leave all that is drawn meanwhile to be drawn again."""
    module = None if device.type == "cpu" else torch.get_device_module(device)
    with torch.random.fork_rng(devices=[]):
        state = module and module.get_rng_state()
        yield
        if module is not None:
            module.set_rng_state(state)


def _checkpointing(model: nn.Module) -> list[Any]:
    """Return the modules that can compute their activations again."""
    # Not by getattr: of a module without it, that goes through all that the module has.
    return [module for module in model.modules() if "gradient_checkpointing" in vars(module)]


@contextmanager
def _switched_off(modules: Sequence[Any]) -> Iterator[None]:
    """Let modules keep their activations: recomputing them is not to change a gradient."""
    on = [module for module in modules if module.gradient_checkpointing]
    for module in on:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in on:
            module.gradient_checkpointing = True
