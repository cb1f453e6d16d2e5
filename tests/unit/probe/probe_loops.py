"""Small loops, as people write them; each returns all that the probe could have changed."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint

VOCABULARY = 40
Numbers = list[float]


class Words(nn.Module):
    """A language model without attention: each token speaks for the next one."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 16)
        self.drop = nn.Dropout(dropout)
        self.inner = nn.Linear(16, 32)
        self.head = nn.Linear(32, VOCABULARY)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return logits, (rows, columns, vocabulary)."""
        return self.head(torch.relu(self.inner(self.drop(self.words(input_ids)))))


def net() -> nn.Sequential:
    """Return a network with batch norm and dropout."""
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)
    )


def rows(columns: int = 12) -> torch.Tensor:
    """Return four rows of tokens."""
    return torch.randint(0, VOCABULARY, (4, columns))


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of each next token."""
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def numbers(losses: Numbers, *models: nn.Module) -> Numbers:
    """Return losses, all parameters and buffers, and what would be drawn next."""
    state = [t for model in models for t in model.state_dict().values()]
    drawn = [torch.rand(1).item(), random.random(), float(np.random.rand())]
    return [*losses, *(float(t.double().sum()) for t in state), *drawn]


def accumulating() -> Numbers:
    """Train over two micro-batches a step, with clipping, a schedule and an evaluation."""
    model = Words()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    losses = []
    for step in range(4):
        for _ in range(2):
            ids = rows()
            loss = next_token_loss(model(ids), ids) / 2
            loss.backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step == 2:
            model.eval()
            with torch.no_grad():
                model(rows())
            model.train()
    return numbers(losses, model)


def two_networks() -> Numbers:
    """Train a generator against a critic."""
    maker = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    critic = net()
    make, judge = (Adam(m.parameters(), lr=1e-3) for m in (maker, critic))
    one, zero = torch.ones(6, 1), torch.zeros(6, 1)
    losses = []
    for _ in range(3):
        made = maker(torch.randn(6, 4))
        judge.zero_grad()
        binary = functional.binary_cross_entropy_with_logits
        (binary(critic(torch.randn(6, 8)), one) + binary(critic(made.detach()), zero)).backward()
        judge.step()
        make.zero_grad()
        loss = binary(critic(made), one)
        loss.backward()
        make.step()
        losses.append(loss.item())
    return numbers(losses, maker, critic)


def recomputing() -> Numbers:
    """Train with activations that are computed again in the backward pass."""
    first, last = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3)), nn.Linear(16, 1)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = first, last

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(checkpoint(self.first, inputs, use_reentrant=False))

    model = Whole()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(6, 8)).square().mean().backward()
        optimizer.step()
    return numbers([], model)


def mixed() -> Numbers:
    """Train in bfloat16 with a GradScaler."""
    model = Words()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        ids = rows()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = next_token_loss(model(ids), ids)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return numbers([loss.item()], model)


def fused() -> Numbers:
    """Train by the kernel that makes a whole step at once."""
    model = Words()
    optimizer = AdamW(model.parameters(), lr=1e-2, fused=True)
    losses = []
    for _ in range(3):
        ids = rows()
        loss = next_token_loss(model(ids), ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return numbers(losses, model)


def with_closure() -> Numbers:
    """Train as Lightning does: the backward pass inside of the step."""
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        inputs = torch.randn(6, 8)

        def closure(inputs: torch.Tensor = inputs) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    return numbers([], model)


def with_penalty() -> Numbers:
    """Train with a penalty on weights, past the model's output, and hooks of one's own."""
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    calls: list[int] = []

    def halved(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * 0.5

    model[4].weight.register_hook(halved)
    for _ in range(3):
        loss = model(torch.randn(6, 8)).square().mean()
        (loss + 0.01 * model[0].weight.square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return numbers([float(len(calls))], model)


def two_losses() -> Numbers:
    """Train a trunk with two heads, each with a backward pass of its own."""
    trunk, first, last = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(16, 2)
    weights = [p for m in (trunk, first, last) for p in m.parameters()]
    optimizer = AdamW([*weights, nn.Parameter(torch.tensor(1.0))], lr=1e-2)
    scale = optimizer.param_groups[0]["params"][-1]
    for _ in range(4):
        inner = trunk(torch.randn(6, 8))
        (first(inner).square().mean() * scale.exp()).backward(retain_graph=True)
        last(inner).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return numbers([scale.item()], trunk, first, last)


def sharpness_aware() -> Numbers:
    """Train by the gradient at a place nearby, as sharpness-aware minimization does."""
    model = net()
    optimizer = SGD(model.parameters(), lr=1e-2)
    for _ in range(2):
        inputs = torch.randn(6, 8)
        model(inputs).square().mean().backward()
        moves = [0.05 * p.grad.sign() for p in model.parameters() if p.grad is not None]
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.add_(move)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.sub_(move)
        optimizer.step()
        optimizer.zero_grad()
    return numbers([], model)


def with_gradient_penalty() -> Numbers:
    """Train with a penalty on the gradient itself."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        inputs = torch.randn(6, 8, requires_grad=True)
        out = model(inputs)
        (slope,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
        (out.mean() + slope.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return numbers([], model)


def sparse() -> Numbers:
    """Train an embedding whose gradients are sparse."""
    model = nn.Sequential(nn.Embedding(VOCABULARY, 8, sparse=True), nn.Linear(8, 1))
    optimizer = SGD(model.parameters(), lr=1e-2)
    for _ in range(2):
        model(rows()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return numbers([], model)


def looking_twice() -> Numbers:
    """Train by LBFGS, which makes several backward passes in one step."""
    model = nn.Linear(8, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    inputs = torch.randn(6, 8)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    return numbers([], model)


LOOPS: tuple[Callable[[], Numbers], ...] = (
    accumulating, two_networks, recomputing, mixed, with_closure, with_penalty, two_losses,
    sharpness_aware, with_gradient_penalty, sparse, looking_twice, fused,
)  # fmt: skip


def seeded(loop: Callable[[], Numbers]) -> Numbers:
    """Run a loop from one seed of all generators."""
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    return loop()
