"""What training starts from: the right parameters, the base's outputs, the seed."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import tolerance
from tunematrix.checks.bound import Around, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import (
    Attached,
    Draws,
    Trainable,
)
from tunematrix.evidence.evidence import Evidence

START_TOLERANCE = {"float32": 1e-5, "bfloat16": 9e-2, "float16": 5e-3}
"""Of the largest logit, by dtype of the arithmetic: DoRA divides by a norm and multiplies by it."""
CHANCE = 6
"""Standard deviations that are still called chance: one run in a billion is further off."""
SPREAD = math.sqrt(1 / 5)
"""Standard deviation of the root mean square of evenly spread numbers, times the root of how many
there are, as a share of it."""


@check(
    name="trainable",
    group="training",
    reads=(Trainable,),
    unit="tensors",
    bug=(
        "target patterns that match fewer layers than expected "
        "([unsloth#9331](https://github.com/unslothai/unsloth/pull/9331)), a base left "
        "unfrozen"
    ),
)
def trainable(evidence: Evidence, claim: Claim) -> Judgement:
    """Exactly the parameters that the method must train require a gradient.

    Reads the names of parameters that require a gradient. Fails when they aren't exactly those
    that the method must train, which are derived from the base's own layers.
    """
    seen = evidence.one(Trainable)
    if seen is None:
        return missing("trainable parameters")
    absent = sorted({*seen.expected} - {*seen.actual})
    extra = sorted({*seen.actual} - {*seen.expected})
    message = (
        f"{len(absent)} of {len(seen.expected)} expected parameters don't train "
        f"({listed(absent)}); {len(extra)} unexpected ones do ({listed(extra)}); likely target "
        "modules that match other layers, or a base that wasn't frozen"
    )
    is_whole = bool(seen.expected) and not absent and not extra
    bound = Exactly(len(seen.expected), note="by name")
    return judge_by(bound, len(seen.actual), message, provided=is_whole)


@check(
    name="attached",
    group="training",
    reads=(Attached,),
    unit="logits",
    bug="adapters that don't start at zero, kernels that change the base's outputs",
)
def attached(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Training starts from the base: a new adapter changes no output yet.

    Reads the logits with the adapter attached, before any step, and those of the loaded base.
    Fails when they differ by more than rounding.
    """
    seen = evidence.one(Attached)
    if seen is None:
        return missing("logits before training")
    if seen.drawn:
        return None  # adapters that relations compare start with values of their own
    dtype = claim.config.precision.compute
    bound = AtMost(tolerance(START_TOLERANCE, [dtype]) * seen.largest)
    message = (
        f"attaching changed logits by {seen.difference:.3g} before any step; an adapter that "
        "doesn't start at zero, or a base that was changed on the way"
    )
    says_something = 0 < seen.largest < math.inf
    return judge_by(bound, seen.difference, message, provided=says_something)


@check(
    name="adapter_start",
    group="training",
    reads=(Attached,),
    unit="times",
    bug=(
        "first factors that are drawn as for another activation, from another distribution, or in "
        "a precision that rounds them; adapters that start too weak or too strong"
    ),
)
def adapter_start(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A new adapter's first factors are drawn as wide as LoRA draws them.

    Reads the root mean square of all first factors before training. Fails when it is further from
    that of numbers spread evenly within 1/sqrt(inputs) of the layer than chance explains: six
    standard deviations of as many numbers.
    """
    if claim.config.method.trains_base:
        return None
    seen = evidence.one(Attached)
    if seen is None or seen.width is None or not seen.numbers:
        return missing("a first factor before training")
    room = CHANCE * SPREAD / math.sqrt(seen.numbers)
    message = (
        f"the {seen.numbers} numbers of the adapters' first factors are {seen.width:.3g} times as "
        "large as LoRA draws them; likely another initialization, or one that is scaled otherwise, "
        "so that the same learning rate does something else"
    )
    return judge_by(Around(1.0, room), seen.width, message)


@check(
    name="seed",
    group="training",
    reads=(Draws,),
    bug="a seed that is ignored in favour of a library's default, such as 42",
)
def seed(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Training draws its random numbers from the configured seed.

    Reads the seed of the default generator at the first training pass. Fails when it isn't
    `train.seed`.
    """
    seen, wanted = evidence.one(Draws), claim.config.train.seed
    if seen is None and claim.hides("seed"):
        return None
    if seen is None:
        return missing("the seed that training began with")
    message = f"training began with seed {seen.seed}; a library's default, or a seed of its own"
    return judge_by(Exactly(wanted), seen.seed, message)
