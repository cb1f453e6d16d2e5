"""Memory and throughput against the spec's bounds."""

from __future__ import annotations

from tunematrix.checks.bound import AtLeast, AtMost, between
from tunematrix.checks.parameters import is_alone
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import Held, Memory, MicroBatch, Storage, Throughput
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import MEGABYTE, MemoryMeasure, memory_bytes, tokens_per_second
from tunematrix.spec.bounds import Range

HELD_SHARE = 0.2
"""Of the base as it is stored; libraries have buffers and caches of their own."""
INPUTS = 64
"""Bytes for each position of a batch: ids, mask, labels and the like, each of 8."""


@check(
    name="held",
    group="training",
    reads=(
        Held,
        MicroBatch,
        Storage,
    ),
    unit="of the base",
    bug=(
        "copies for an unload that never comes, an unused reference model, losses that are "
        "kept with their graphs"
    ),
)
def held(evidence: Evidence, claim: Claim) -> Judgement:
    """Nothing as large as the model is in memory beside it, before, during and after training.

    Reads all arrays in memory beside the model, its gradients and the optimizer's moments: before
    training, at the end of its last step (not in MLX, with several processes, where DPO needs a
    second model, or the first trainer of an interrupted run is still there), and after the recipe
    had finished. Fails when they take more than a fifth of the base's size and the integers of one
    batch together.
    """
    config = claim.config
    others = (config.recipe.prefers and config.method.trains_base) or config.train.interrupt_at > 0
    seen, stored = evidence.all(Held), memory_bytes(evidence, "stored")
    looks = is_alone(claim) and not others
    due = {"before", "after"} | ({"during"} if looks else set())
    if not due <= {one.when for one in seen} or not stored:
        return missing("what is in memory beside the model")
    seen = tuple(one for one in seen if one.when in due)
    worst = max(seen, key=lambda one: one.beside)
    # What a trainer keeps of a batch is nothing beside a model, but much beside a tiny one.
    kept = max((one.rows * one.columns for one in evidence.all(MicroBatch)), default=0) * INPUTS
    share = max(0, worst.beside - kept) / stored
    message = (
        f"{worst.when} training {worst.beside / MEGABYTE:.1f} MB are held beside the model and its "
        f"gradients, {share:.0%} of what the base takes; likely a copy that was kept, a graph with "
        "its activations, or something that grows with each step"
    )
    return judge_by(AtMost(HELD_SHARE), share, message)


@check(
    name="memory_stored",
    group="memory",
    reads=(Storage,),
    unit="MB",
    bound_in="memory",
    bug="layers that a quantizer left out",
)
def memory_stored(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The loaded model stores as many bytes as the spec says.

    Reads the bytes of all tensors of the loaded model. Fails when they are outside
    `memory.stored_mb`.
    """
    bounds = claim.spec.memory
    return _memory("stored", None if bounds is None else bounds.stored_mb, evidence)


@check(
    name="memory_allocator_peak",
    group="memory",
    reads=(Memory,),
    unit="MB",
    bound_in="memory",
    bug="copies that exist for a moment, which readings before and after don't show",
)
def memory_allocator_peak(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The allocator's peak in training is within the spec's bounds.

    Reads the peak of the allocator in a few steps of a separate pass. Fails when it is outside
    `memory.allocator_peak_mb`.
    """
    bounds = claim.spec.memory
    return _memory("allocator_peak", None if bounds is None else bounds.allocator_peak_mb, evidence)


@check(
    name="memory_process_peak",
    group="memory",
    reads=(Memory,),
    unit="MB",
    bound_in="memory",
    bug="copies that exist for a moment, outside the allocator",
)
def memory_process_peak(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The growth of the process in training is within the spec's bounds.

    Reads the growth of the process's peak resident size in training. Fails when it is outside
    `memory.process_peak_mb`.
    """
    bounds = claim.spec.memory
    return _memory("process_peak", None if bounds is None else bounds.process_peak_mb, evidence)


@check(
    name="throughput",
    group="memory",
    reads=(Throughput,),
    unit="tokens/s",
    bound_in="throughput",
    bug="a fallback to slow kernels",
)
def throughput(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Training is as fast as the spec asks for.

    Reads the tokens that entered the model, without padding, and the training time. Fails when
    there are fewer a second than `throughput.min_tokens_per_second`.
    """
    bounds = claim.spec.throughput
    if bounds is None:
        return None
    rate = tokens_per_second(evidence)
    if rate is None:
        return missing("tokens and seconds")
    message = (
        f"training took in {rate:.1f} tokens a second; likely a slower device than asked for, a "
        "busy machine, or more padding"
    )
    return judge_by(AtLeast(bounds.min_tokens_per_second), rate, message)


def _memory(measure: MemoryMeasure, bounds: Range | None, evidence: Evidence) -> Judgement | None:
    if bounds is None:
        return None
    size = memory_bytes(evidence, measure)
    # A meter that saw no byte saw nothing, and would meet every upper bound.
    if not size:
        return missing(f"the {measure.replace('_', ' ')}")
    measured = size / MEGABYTE
    message = (
        f"{measured:.1f} MB; likely another dtype or quantizer, a copy that is kept, or another "
        "batch size or checkpointing"
    )
    return judge_by(between(bounds.min, bounds.max), measured, message)
