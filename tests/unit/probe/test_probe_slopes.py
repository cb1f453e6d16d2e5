"""Gradients of cross-entropies, smoothed or not, are taken apart into what they were made of."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from tunematrix.probe.tunematrix_probe.slopes import FITS, rows_of

POSITIONS = 64
SMOOTHINGS = (0.05, 0.1, 0.2)
VOCABULARIES = (40, 200, 1000)


def _logits(vocabulary: int, spread: float, *, trained: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits, and targets; a trained model's go from unlikely ones to certain ones."""
    logits, targets = (
        torch.randn(POSITIONS, vocabulary) * spread,
        torch.randint(0, vocabulary, (POSITIONS,)),
    )
    if trained:
        logits[torch.arange(POSITIONS), targets] += torch.linspace(0, 12, POSITIONS)
    return logits.requires_grad_(), targets


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_smoothing_is_told(vocabulary: int, smoothing: float, trained: bool) -> None:
    """Targets, weights and smoothing come out, those included that have no slope of their own."""
    for spread, _ in itertools.product((1.0, 5.0, 20.0), range(5)):
        logits, targets = _logits(vocabulary, spread, trained=trained)
        functional.cross_entropy(logits, targets, label_smoothing=smoothing).backward()
        assert logits.grad is not None
        rows, found = rows_of(logits.detach(), logits.grad, torch.arange(POSITIONS))
        assert found == pytest.approx(smoothing, rel=0.01)
        assert torch.equal(rows.target, targets[rows.counted])
        assert float(rows.misfit.max()) < FITS
        assert float(rows.weight.sum()) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_plain_loss_has_no_smoothing(dtype: torch.dtype) -> None:
    """Rounding, and tokens of other weights, aren't taken for smoothing."""
    for vocabulary, spread, trained in itertools.product(
        VOCABULARIES, (0.1, 1.0, 5.0), (False, True)
    ):
        drawn, targets = _logits(vocabulary, spread, trained=trained)
        logits = drawn.detach().to(dtype).requires_grad_()
        nats = functional.cross_entropy(logits.float(), targets, reduction="none")
        (nats * (torch.rand(POSITIONS) + 0.1)).mean().backward()
        assert logits.grad is not None
        assert rows_of(logits.detach(), logits.grad, torch.arange(POSITIONS))[1] == 0
