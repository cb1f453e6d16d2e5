"""Every setting takes effect, measured where it acts and not where it is echoed."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import severity
from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import (
    Compiled,
    Compute,
    Device,
    LoggedStep,
    OptimizerStep,
    Switches,
    TrainedDtypes,
)
from tunematrix.evidence.evidence import Evidence

RATE_TOLERANCE = 1e-6
MOST_OUTSIDE = 0.5
"""Measured over PEFT's adapters: none, and 11 of 45 for DoRA."""


@check(
    name="device",
    group="device",
    reads=(Device,),
    bug="a silent fallback to the CPU, layers left on `meta`",
)
def device(evidence: Evidence, claim: Claim) -> Judgement:
    """Parameters and activations were on the configured device.

    Reads the devices of parameters and activations. Fails when one isn't the backend's device.
    """
    seen = evidence.one(Device)
    if seen is None:
        return missing("where tensors were")
    wanted = claim.config.backend.device
    if not seen.parameters or not seen.activations:
        return missing("where parameters and activations were")
    places = sorted({*seen.parameters, *seen.activations})
    message = f"tensors were on {', '.join(places)}; a fallback, or parts left behind"
    return judge_by(Exactly(wanted), ", ".join(places), message)


@check(
    name="precision",
    group="training",
    reads=(Compute,),
    bug=(
        "`fp16=True` on a CPU, which Trainer accepts without a warning, then computes in "
        "float32 "
        "([TrainingArguments](https://huggingface.co/docs/transformers/main_classes/trainer"
        "#transformers.TrainingArguments.fp16)); "
        "mixed precision that reaches other layers"
    ),
)
def precision(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The base's layers multiply in the dtype that the precision names.

    Reads the dtypes of the matrix products inside the base's layers. Fails when one isn't the
    precision's. Not judged of a compiled model, whose layers aren't called one by one.
    """
    if claim.hides("layers"):
        return None
    seen = evidence.one(Compute)
    if seen is None:
        return missing("dtypes")
    wanted = claim.config.precision.compute
    measured = ", ".join(seen.products)
    message = f"layers computed in {measured}; mixed precision was ignored or leaks"
    return judge_by(Exactly(wanted), measured, message)


@check(
    name="attention_kernel",
    group="training",
    reads=(Compute,),
    unit="layers",
    bug=(
        "a fallback of PyTorch's function to products and a softmax, without a warning, which "
        "takes more memory and time"
    ),
)
def attention_kernel(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Attention is computed by one kernel in each layer.

    Reads the operators of the trainer's first pass (PyTorch only, for models that can use its
    kernels). Fails when fewer kernels computed attention than there are layers.
    """
    seen = evidence.one(Compute)
    if seen is None:
        return missing("how attention was computed")
    if seen.attention is None:
        return None
    kernels, layers = seen.attention
    message = (
        f"{kernels} of {layers} layers computed attention in a kernel; the others multiplied and "
        "took a softmax, in more memory and time: kernels were switched off, or refused the inputs"
    )
    return judge_by(AtLeast(layers), kernels, message)


@check(
    name="compiled",
    group="training",
    reads=(Compiled,),
    unit="of the products",
    bug=(
        "`torch_compile` that is ignored; a fallback that computes uncompiled without a word, "
        "since shapes change or a library can't be followed"
    ),
)
def compiled(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A model that is to be compiled multiplies in compiled graphs, in every training pass.

    Reads what each pass leaves for its backward pass to go through, beside a pass of the same model
    that isn't compiled (PyTorch only). Fails when a pass has left no compiled graph, or more than
    half of the matrix products lay outside: a graph may end where a library can't be followed, as
    in PEFT's DoRA. Owed where `train.compile` asks for it; what happens inside of layers isn't seen
    then, and checks of that aren't made.
    """
    if not claim.config.train.is_compiled:
        return None
    seen = evidence.one(Compiled)
    if seen is None or not seen.passes or not seen.products:
        return missing("a training pass, compiled and not")
    share = seen.outside / seen.products
    message = (
        f"{seen.idle} of {seen.passes} passes left no compiled graph, and in one {seen.outside} of "
        f"{seen.products} matrix products lay outside; train.compile was ignored, or what was "
        "compiled fell back"
    )
    return judge_by(AtMost(MOST_OUTSIDE), share, message, provided=not seen.idle)


@check(
    name="switches",
    group="training",
    reads=(Switches,),
    unit="changed",
    bug=(
        "libraries that set a default dtype, the number of threads, a seed or a variable of the "
        "environment, or switch off gradients or warnings, and don't set it back"
    ),
)
def switches(evidence: Evidence, claim: Claim) -> Judgement:
    """Settings of the whole process stay as the backend set them.

    Reads these settings after each of the first four steps and then after each fourth one, and when
    training is over: threads, default dtype and device, determinism, precision of products,
    attention kernels, autocast, whether gradients are taken, the seed of PyTorch's generator, what
    becomes of warnings and of NumPy's errors, and the variables of the environment that libraries
    compute by. Fails when one has changed.
    """
    seen = evidence.one(Switches)
    if seen is None or not seen.steps or not seen.begun:
        return missing("process-wide switches after a step")
    changed = [
        f"{name} was {seen.begun.get(name)}, and {value} after step {step}"
        for name, (step, value) in seen.changed.items()
    ]
    message = f"{listed(changed)}; a library sets it for the whole process, and all that follows"
    return judge_by(Exactly(0), len(changed), message)


@check(
    name="trained_dtypes",
    group="training",
    reads=(TrainedDtypes,),
    bug=(
        "adapters that take the base's bfloat16; SFTTrainer turns those over bitsandbytes into "
        "bfloat16 ([peft#2889](https://github.com/huggingface/peft/issues/2889)), which the "
        "quantizers declare"
    ),
)
def trained_dtypes(evidence: Evidence, claim: Claim) -> Judgement:
    """Trained weights, their gradients and the optimizer's moments have the declared dtypes.

    Reads the dtypes of trained weights, their gradients and the optimizer's moments in the
    first steps. Fails when they aren't those that the precision declares, or, for a method that
    it names, the quantizer.
    """
    seen = evidence.one(TrainedDtypes)
    if seen is None or not seen.parameters:
        return missing("dtypes of what trains")
    if not seen.gradients and not claim.hides("gradients"):
        return missing("dtypes of the gradients")
    optimizer = claim.config.optimizer
    if not seen.state and not (optimizer.name == "sgd" and not optimizer.momentum):
        return missing("dtypes of the optimizer's moments")
    own = claim.config.quantizer.trained.get(claim.config.method.name)
    promised = set(own or [claim.config.precision.trained])
    wanted = " and ".join(sorted(promised))
    dtypes = {"weights": seen.parameters, "gradients": seen.gradients, "moments": seen.state}
    odd = {what: names for what, names in dtypes.items() if names and {*names} != promised}
    measured = "; ".join(f"{what} {', '.join(names)}" for what, names in odd.items()) or wanted
    message = (
        f"{measured} where {wanted} was promised; adapters that follow their base's dtype, or an "
        "optimizer whose moments are rounded: small updates are lost"
    )
    return judge_by(Exactly(wanted), measured, message)


@check(
    name="learning_rate",
    group="training",
    reads=(OptimizerStep,),
    unit="from the schedule",
    bug=(
        "schedulers stepped once per micro-batch or process "
        "([accelerate#963](https://github.com/huggingface/accelerate/issues/963)), warm-up that is "
        "ignored"
    ),
)
def learning_rate(evidence: Evidence, claim: Claim) -> Judgement:
    """The learning rate of each step, read from the optimizer, follows the schedule's formula.

    Reads the rate of each optimizer group before each step. Fails when it differs from the
    schedule's formula, or when the number of steps isn't the configured one.
    """
    steps = evidence.all(OptimizerStep)
    if not steps or not all(step.learning_rates for step in steps):
        return missing("each optimizer step's rate")
    peak, total = claim.config.train.learning_rate, claim.config.train.max_steps
    errors = [
        (abs(rate - scheduled_rate(claim, step.step)), step.step, rate)
        for step in steps
        for rate in step.learning_rates
    ]
    error, worst, rate = max(errors, key=lambda row: severity(row[0]))
    message = (
        f"step {worst} used {rate:g}, {claim.config.scheduler.name} from {peak:g} with "
        f"{claim.config.train.warmup_steps} warm-up steps asks for "
        f"{scheduled_rate(claim, worst):g}; the scheduler was ignored, or stepped at the wrong "
        f"time ({len(steps)} of {total} steps)"
    )
    bound = AtMost(RATE_TOLERANCE * peak, note=f"in each of {total} steps")
    return judge_by(bound, error, message, provided=len(steps) == total)


@check(
    name="logged_rate",
    group="training",
    reads=(LoggedStep,),
    unit="from the schedule",
    bug="curves that lag several steps behind, which nobody would notice",
)
def logged_rate(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The logged rate of each step is that step's.

    Reads the rates in the trainer's log, if it logs any. Fails when one isn't the schedule's at its
    step; of trainers that read it after the scheduler's step, by design, at the next one.
    """
    lines = evidence.all(LoggedStep)
    if not lines:
        return missing("a logged step")
    # A log that counts from 0, which other checks see, has a line before the first step.
    errors = [
        (
            abs(one.learning_rate - scheduled_rate(claim, max(one.step - 1 + one.rate_is_next, 0))),
            one,
        )
        for one in lines
        if one.learning_rate is not None
    ]
    if not errors:
        return None  # not every loop logs them
    error, worst = max(errors, key=lambda row: severity(row[0]))
    bound = AtMost(RATE_TOLERANCE * claim.config.train.learning_rate)
    whose = "the next one's, as this release logs it" if worst.rate_is_next else "its own"
    message = (
        f"step {worst.step} logged a rate of {worst.learning_rate:g}, which isn't {whose}; the "
        "curve that people look at isn't what trained"
    )
    return judge_by(bound, error, message)


def scheduled_rate(claim: Claim, step: int) -> float:
    """Return the rate of optimizer step `step` (from 0) by the schedule's definition."""
    peak = claim.config.train.learning_rate
    warm, total = claim.config.train.warmup_steps, claim.config.train.max_steps
    if step < warm:
        return peak * step / warm
    progress = (step - warm) / max(1, total - warm)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }
    return peak * shape[claim.config.scheduler.name]
