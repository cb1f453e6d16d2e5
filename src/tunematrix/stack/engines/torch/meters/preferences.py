"""Preference training as the model gets it: pairs, their losses, and the base they are held to.

Losses and gradients are recomputed by the definition of DPO (arXiv:2305.18290) from the very
batches that were trained on; the reference is a base that is loaded when training is over, so
nothing that the trainer did can have reached it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Self

import torch
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import PreferenceLoss
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.examples import IGNORED, Data
from tunematrix.stack.engines.known_rows import Found, Misread, Row
from tunematrix.stack.engines.rules import Rules
from tunematrix.stack.engines.torch.padding import TorchBatch
from tunematrix.stack.engines.torch.scoring import evaluating, log_probabilities
from tunematrix.stack.yardsticks.audit import AUDITED_STEPS


@dataclass(frozen=True)
class PairAudit:
    """What a pair of sequences may be; the first half of a batch is chosen.

    Attributes:
        texts: of every row, the chosen completion and the other, end tokens included.
        pairs: of every row, the ids of both, each after the prompt.
        rules: to spell labels by.
    """

    texts: frozenset[str]
    pairs: frozenset[tuple[Row, ...]]
    rules: Rules

    @classmethod
    def of(cls, data: Data, tokenizer: PreTrainedTokenizerBase) -> PairAudit:
        """Read them off the data, whose examples are the chosen one and the other by turns."""
        ids = [tuple(example.ids) for example in data.examples]
        pairs = frozenset(zip(ids[::2], ids[1::2], strict=True))
        return cls(data.texts, pairs, rules.of(tokenizer))

    def look(self, inputs: Mapping[str, torch.Tensor]) -> Found:
        """Say how many rows are in a pair that is its row's, after its row's prompt."""
        ids, labels = inputs["input_ids"], inputs["labels"]
        mask = inputs.get("attention_mask")
        real = torch.ones_like(ids) if mask is None else mask
        half, found = len(ids) // 2, Found()
        rows = list(zip(ids, labels, real.bool(), strict=True))
        for pair in zip(rows[:half], rows[half:], strict=False):
            for _ in pair:
                found.add(self._wrong(*pair), cut=False)
        return found

    def _wrong(self, *pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Misread | None:
        counted = [(ids, labels, labels != IGNORED) for ids, labels, _ in pair]
        own = all(torch.equal(ids[c], labels[c]) for ids, labels, c in counted)
        # Nothing counts before a completion, and everything does from there to its end.
        prompts = [ids[: int(c.int().argmax())] for ids, _, c in counted]
        (text,) = self.rules.texts([torch.cat([ids[c] for ids, _, c in counted]).tolist()])
        if not (own and torch.equal(*prompts) and text in self.texts):
            return "others"
        whole = tuple(tuple(ids[real].tolist()) for ids, _, real in pair)
        return None if whole in self.pairs else "foreign"


@dataclass(frozen=True)
class Look:
    """One pass of a step: its batch, and log-probabilities under the weights of then."""

    step: int
    batch: TorchBatch
    policy: torch.Tensor


@dataclass
class DpoLosses:
    """Recomputes DPO's loss at some steps, and its gradient at the first.

    Attributes:
        beta: of the loss; steps: those that are recomputed; compute: dtype of the arithmetic.
        looks: what was seen so far.
        gradients: of each pass of the first step, by parameter.
        norm: of the first step's gradient.
    """

    beta: float
    steps: frozenset[int]
    compute: torch.dtype
    looks: list[Look] = field(default_factory=list)
    gradients: list[tuple[torch.Tensor, ...]] = field(default_factory=list)
    norm: float | None = None

    @classmethod
    def of(cls, config: Configuration) -> Self:
        """Choose the first steps, the middle one and the last."""
        total = config.train.max_steps
        steps = frozenset({*range(AUDITED_STEPS), total // 2, total - 1})
        compute: torch.dtype = getattr(torch, config.precision.compute)
        return cls(config.dpo.beta, steps, compute)

    def look(self, model: nn.Module, inputs: dict[str, Any], step: int) -> None:
        """Score a batch under the weights of now; it may not change afterwards."""
        if step not in self.steps:
            return
        batch = TorchBatch(*(inputs[n].clone() for n in ("input_ids", "attention_mask", "labels")))
        with torch.set_grad_enabled(step == 0), torch.random.fork_rng(devices=[]):
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            policy = log_probabilities(logits, batch)
            if step == 0:
                self.gradients.append(self._gradient(model, policy))
        self.looks.append(Look(step, batch, policy.detach()))

    def stepped(self, step: int) -> None:
        """Take the norm of the first step's gradient: the mean over its passes."""
        if step == 0 and self.gradients:
            means = [sum(parts) / len(parts) for parts in zip(*self.gradients, strict=True)]
            self.norm = float(torch.stack([torch.as_tensor(g).norm() for g in means]).norm())
            self.gradients.clear()

    def compare_with_base(self, base: nn.Module) -> Iterator[PreferenceLoss]:
        """Yield the loss of each step that was looked at, beside an untouched base."""
        for step, group in groupby(self.looks, key=lambda look: look.step):
            looks = list(group)
            policy = torch.stack([torch.stack(look.policy.chunk(2)) for look in looks])
            scores = [self._reference(base, look.batch) for look in looks]
            reference = torch.stack([torch.stack(score.chunk(2)) for score in scores])
            chosen, rejected = (policy - reference).unbind(1)
            loss = -logsigmoid(self.beta * (chosen - rejected)).mean()
            yield PreferenceLoss(
                step=step,
                loss=float(loss),
                chosen=float(policy[:, 0].mean()),
                rejected=float(policy[:, 1].mean()),
                reference_chosen=float(reference[:, 0].mean()),
                reference_rejected=float(reference[:, 1].mean()),
                gradient_norm=self.norm if step == 0 else None,
            )

    def _gradient(self, model: nn.Module, policy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Differentiate the loss of a policy that is still its own reference."""
        chosen, rejected = (policy - policy.detach()).chunk(2)
        loss = -logsigmoid(self.beta * (chosen - rejected)).mean()
        trained = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, trained, allow_unused=True)
        return tuple(g.float() for g in found if g is not None)

    def _reference(self, base: nn.Module, batch: TorchBatch) -> torch.Tensor:
        device, lowered = batch.input_ids.device.type, self.compute != torch.float32
        # With autograd on, as in `scoring.logits`: without it, some libraries repack weights.
        with (
            evaluating(base),
            torch.enable_grad(),
            torch.autocast(device, dtype=self.compute, enabled=lowered),
        ):
            out = base(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return log_probabilities(out.detach(), batch)
