"""Faults planted in what the probe writes of an honest run, and the check that fails by each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tests.unit.watched import SCALED, Change, fields, since

from tunematrix.probe.tunematrix_probe.records import (
    SeenBatch,
    SeenClip,
    SeenCoverage,
    SeenGradient,
    SeenLoaderWorker,
    SeenLoss,
    SeenMoved,
    SeenPrecision,
    SeenSaved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
)

UNIT = replace(SCALED, factor=1.0)
"""Of a factor of 1, so that no weight of a token changes."""
CLIP = SeenClip("norm", 1.0, 2.5, 4, 4, scaled=False, before_backward=False)


def _short_of_one(one: SeenLoss) -> SeenLoss | None:
    return None if one.pass_number else one


# What is planted: which records change, how, the check that must fail, a part of its message.
PLANTED: dict[str, tuple[type[Any], Change, str, str]] = {
    "no step": (SeenStep, lambda _: None, "watched", "no step of an optimizer"),
    "nothing moves": (
        SeenMoved,
        fields(moved=0, unmoved_names=("a", "b", "c", "d")),
        "watched_moved",
        "a, b, c and 1 more",
    ),
    "one tensor stays": (
        SeenMoved,
        fields(moved=3, unmoved_names=("norm",)),
        "watched_moved",
        "are as they were: norm",
    ),
    "B stays zero": (
        SeenMoved,
        fields(moved=2, adapters_zero=2, adapters_zero_names=("q.lora_B", "v.lora_B")),
        "watched_moved",
        "still zero: q.lora_B, v.lora_B",
    ),
    "weights that are put back": (
        SeenUpdate,
        fields(changed_between=4, undone=4),
        "watched_moved",
        "before the second step, 4 tensors are put back",
    ),
    "a loss that depends on nothing": (
        SeenStep,
        lambda one: replace(one, zero_gradient=4 if one.audited else None, clips=()),
        "watched_moved",
        "all gradients are 0 in each of 3 audited steps",
    ),
    "B is frozen": (
        SeenMoved,
        fields(adapters=0, adapters_frozen_zero=2),
        "watched_moved",
        "zeros and frozen",
    ),
    "no gradient for the optimizer": (
        SeenStep,
        fields(with_gradient=0, gradient_norm=0.0),
        "watched_trainable",
        "no tensor of AdamW had a gradient",
    ),
    "a layer in no group": (
        SeenCoverage,
        fields(missing=2, missing_names=("head",)),
        "watched_trainable",
        "no group of an optimizer has 2 tensors",
    ),
    "an optimizer of an older model": (
        SeenCoverage,
        fields(missing=4, missing_alone=4, foreign=4, replaced=4),
        "watched_trainable",
        "before the model was made anew",
    ),
    "a detach": (
        SeenCoverage,
        fields(idle=2, idle_before=2, idle_names=("embed",)),
        "watched_trainable",
        "detach() or no_grad()",
    ),
    "a frozen base that moves": (
        SeenMoved,
        fields(frozen_changed=1, frozen_changed_names=("embed",)),
        "watched_frozen",
        "changed all the same: embed",
    ),
    "a rate of 0": (
        SeenStep,
        fields(learning_rates=(0.0,)),
        "watched_learning_rate",
        "nothing was trained",
    ),
    "a rate of nan": (
        SeenStep,
        since(2, learning_rates=(math.nan,)),
        "watched_learning_rate",
        "a step was made at this",
    ),
    "a schedule in each micro-batch": (
        SeenScheduler,
        fields(calls=10),
        "watched_schedule",
        "the schedule runs ahead",
    ),
    "no schedule": (SeenScheduler, fields(calls=0), "watched_schedule", "never stepped in 5 steps"),
    "a schedule before the first step": (
        SeenScheduler,
        fields(before_first=1),
        "watched_schedule",
        "before the optimizer's first step",
    ),
    "a schedule of another optimizer": (
        SeenScheduler,
        fields(optimizer=None),
        "watched_schedule",
        "never made a step",
    ),
    "a gradient that is scaled": (
        SeenGradient,
        fields(scale=0.8),
        "watched_gradient",
        "its scale isn't",
    ),
    "the last micro-batch alone": (
        SeenGradient,
        fields(error=0.7, last_error=1e-6),
        "watched_gradient",
        "the last of 2 micro-batches alone",
    ),
    "a gradient that is nan": (
        SeenGradient,
        fields(error=math.nan, scale=math.nan),
        "watched_gradient",
        "what reaches the optimizer is nan times",
    ),
    "no zero_grad": (
        SeenStep,
        since(1, kept=4, zeroed=0),
        "watched_zeroed",
        "call zero_grad() once a step",
    ),
    "zero_grad in each micro-batch": (
        SeenStep,
        fields(discarded=1, zeroed=2, zeroed_late=1),
        "watched_zeroed",
        "the gradients of 1 backward pass were zeroed",
    ),
    "clipping without effect": (
        SeenStep,
        fields(gradient_norm=2.5),
        "watched_clipping",
        "reaches the optimizer is 2.5, and the limit 1",
    ),
    "clipping before backward": (
        SeenStep,
        fields(clips=(replace(CLIP, before_backward=True),)),
        "watched_clipping",
        "before the backward pass",
    ),
    "clipping of another model": (
        SeenStep,
        fields(clips=(replace(CLIP, ours=0),)),
        "watched_clipping",
        "isn't what the optimizer steps with",
    ),
    "clipping of nothing": (
        SeenStep,
        fields(clips=(replace(CLIP, tensors=0, ours=0),)),
        "watched_clipping",
        "a generator of parameters",
    ),
    "another formula": (SeenUpdate, fields(error=0.3), "watched_update", "as adamw would"),
    "weights that are nan": (SeenUpdate, fields(not_finite=1), "watched_update", "nan or inf"),
    "steps uphill": (
        SeenUpdate,
        fields(error=None, rule="", uphill=0.99),
        "watched_update",
        "99% of the elements",
    ),
    "labels shifted twice": (
        SeenLoss,
        fields(targets_next=2, targets_second=24),
        "watched_labels",
        "shifted twice",
    ),
    "labels not shifted": (
        SeenLoss,
        fields(targets_next=2, targets_same=24),
        "watched_labels",
        "taught the token that they are given",
    ),
    "padding labelled": (
        SeenBatch,
        fields(padding_labelled=4),
        "watched_labels",
        "labels are on 4 positions of padding",
    ),
    "all masked": (SeenBatch, fields(labelled=0), "watched_labels", "nothing to learn"),
    "nan": (SeenStep, since(3, loss=math.nan), "watched_loss", "the loss of step 4 is nan"),
    "a micro-batch is missing": (
        SeenLoss,
        _short_of_one,
        "watched_loss",
        "never weigh more than 0.5 together",
    ),
    "labels that don't count": (
        SeenLoss,
        fields(missing=6),
        "watched_loss",
        "6 of 30 labelled positions don't count",
    ),
    "workers that draw alike": (
        SeenLoaderWorker,
        fields(used=("torch", "numpy")),
        "watched_batches",
        "the same numbers from numpy",
    ),
    "autocast for another device": (
        SeenPrecision,
        fields(entered=("cuda:bfloat16",)),
        "watched_precision",
        "bfloat16 was asked for",
    ),
    "mixed precision that isn't": (
        SeenPrecision,
        fields(asked="bf16"),
        "watched_precision",
        "all matrix products are in float32",
    ),
    "a scaler that scales nothing": (
        SeenStep,
        fields(scaler=replace(SCALED, scaled_loss=False)),
        "watched_precision",
        "the loss wasn't scaled",
    ),
    "clipping before unscaling": (
        SeenStep,
        fields(scaler=UNIT, clips=(replace(CLIP, scaled=True),)),
        "watched_precision",
        "call scaler.unscale_(optimizer) first",
    ),
    "gradients that vanish": (
        SeenStep,
        fields(scaler=UNIT, zero_gradient=4),
        "watched_precision",
        "too small for float16",
    ),
    "evaluation mode is left on": (
        SeenStep,
        since(2, training=0.0),
        "watched_mode",
        "from step 3 on, the model trains in evaluation mode",
    ),
    "never train()": (SeenStep, fields(training=0.0), "watched_mode", "call model.train()"),
    "a part in evaluation mode": (
        SeenStep,
        since(2, dropouts_off=1),
        "watched_mode",
        "1 dropout is in evaluation mode",
    ),
    "a checkpoint from the start": (
        SeenSaved,
        fields(differing=4, as_at_start=4, differing_names=("a",)),
        "watched_checkpoint",
        "4 saved tensors are as they were at the start: a",
    ),
}
