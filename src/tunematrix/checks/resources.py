"""Memory and throughput against the spec's bounds."""

from __future__ import annotations

import math
from functools import partial

from tunematrix.checks.verdict import Check, Claim, Verdict, decide, missing
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.events import Memory, Storage, Throughput

MEGABYTE = 1e6


def memory_bytes(evidence: Evidence, measure: str) -> int | None:
    """Return one memory measure in bytes, or None where it wasn't taken."""
    if measure == "stored":
        storage = evidence.one(Storage)
        return None if storage is None else storage.total_bytes
    found = [m for m in evidence.all(Memory) if m.measure == measure]
    return found[-1].bytes if found else None


def _memory(measure: str, evidence: Evidence, claim: Claim) -> Verdict | None:
    bounds = getattr(claim.spec.memory, f"{measure}_mb") if claim.spec.memory else None
    if bounds is None:
        return None
    size = memory_bytes(evidence, measure)
    name = f"memory_{measure}"
    if size is None:
        return missing(name, f"the {measure.replace('_', ' ')}")
    low = bounds.min if bounds.min is not None else -math.inf
    high = bounds.max if bounds.max is not None else math.inf
    measured = size / MEGABYTE
    message = f"{measured:.1f} MB is outside {low:g} to {high:g} MB"
    return decide(
        name, low <= measured <= high, measured, f"{low:g} to {high:g}", message, unit="MB"
    )


memory_stored: Check = partial(_memory, "stored")
memory_allocator_peak: Check = partial(_memory, "allocator_peak")
memory_process_peak: Check = partial(_memory, "process_peak")


def throughput(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training was as fast as the spec promises."""
    bounds = claim.spec.throughput
    if bounds is None:
        return None
    seen = evidence.one(Throughput)
    if seen is None:
        return missing("throughput", "tokens and seconds")
    rate = seen.tokens / seen.seconds
    least = bounds.min_tokens_per_second
    message = f"{seen.tokens} tokens took {seen.seconds:.2f} s"
    return decide("throughput", rate >= least, rate, f">= {least:g}", message, unit="tokens/s")


def methods(evidence: Evidence) -> dict[str, str]:
    """Return how each memory measure was read."""
    return {memory.measure: memory.method for memory in evidence.all(Memory)}
