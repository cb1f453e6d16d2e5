"""Memory and throughput against the spec's bounds."""

from __future__ import annotations

import math
from functools import partial

from tunematrix.checks.verdict import Check, Claim, Verdict, decide, missing, within
from tunematrix.evidence.events import Held, Memory, Storage, Throughput
from tunematrix.evidence.evidence import Evidence

MEGABYTE = 1e6
HELD_SHARE = 0.2
"""Of the base as it is stored; libraries have buffers and caches of their own."""


def memory_bytes(evidence: Evidence, measure: str) -> int | None:
    """Return one memory measure in bytes, or None where it wasn't taken."""
    if measure == "stored":
        storage = evidence.one(Storage)
        return None if storage is None else storage.total_bytes
    found = [m for m in evidence.all(Memory) if m.measure == measure]
    return found[-1].bytes if found else None


def tokens_per_second(evidence: Evidence) -> float | None:
    """Return the speed of training, or None where it wasn't taken."""
    seen = evidence.one(Throughput)
    if seen is None:
        return None
    return seen.tokens / seen.seconds if seen.seconds > 0 else math.nan


def methods(evidence: Evidence) -> dict[str, str]:
    """Return how each memory measure was read."""
    return {memory.measure: memory.method for memory in evidence.all(Memory)}


def _memory(measure: str, evidence: Evidence, claim: Claim) -> Verdict | None:
    bounds = getattr(claim.spec.memory, f"{measure}_mb") if claim.spec.memory else None
    if bounds is None:
        return None
    size = memory_bytes(evidence, measure)
    name = f"memory_{measure}"
    # A meter that saw no byte saw nothing, and would meet every upper bound.
    if not size:
        return missing(name, f"the {measure.replace('_', ' ')}")
    measured = size / MEGABYTE
    message = (
        f"{measured:.1f} MB; likely another dtype or quantizer, a copy that is kept, or another "
        "batch size or checkpointing"
    )
    return within(name, measured, bounds.min, bounds.max, message, unit="MB")


memory_stored: Check = partial(_memory, "stored")
memory_allocator_peak: Check = partial(_memory, "allocator_peak")
memory_process_peak: Check = partial(_memory, "process_peak")


def held(evidence: Evidence, claim: Claim) -> Verdict:
    """Nothing of a model's size stays in memory beside it, before training and after."""
    seen, stored = evidence.all(Held), memory_bytes(evidence, "stored")
    if {one.when for one in seen} != {"before", "after"} or not stored:
        return missing("held", "what is in memory beside the model")
    worst = max(seen, key=lambda one: one.beside)
    share = worst.beside / stored
    message = (
        f"{worst.when} training {worst.beside / MEGABYTE:.1f} MB are held beside the model and its "
        f"gradients, {share:.0%} of what the base takes; likely a copy that was kept, or a graph "
        "with its activations"
    )
    return decide(
        "held", share <= HELD_SHARE, share, f"<= {HELD_SHARE:g}", message, unit="of the base"
    )


def throughput(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training was as fast as the spec promises."""
    bounds = claim.spec.throughput
    if bounds is None:
        return None
    rate = tokens_per_second(evidence)
    if rate is None:
        return missing("throughput", "tokens and seconds")
    message = (
        f"training took in {rate:.1f} tokens a second; likely a slower device than asked for, a "
        "busy machine, or more padding"
    )
    least = bounds.min_tokens_per_second
    return within("throughput", rate, least, None, message, unit="tokens/s")
