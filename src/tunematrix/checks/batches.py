"""What training was fed with: batches, labels, the rows they came from; and what is kept of it."""

from __future__ import annotations

from collections import Counter
from statistics import median

from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import Coverage, MicroBatch
from tunematrix.evidence.evidence import Evidence

PACKED_FILL = 0.7
BY_CHANCE = 6
"""Rows that a fair shuffle may leave before their next ones; one in 3,000 leaves as many."""
IN_ORDER = 0.5
"""Share of rows; shuffled, one of so many rows as there are is followed by its next."""


def micro_batches(evidence: Evidence, claim: Claim) -> Verdict:
    """Each optimizer step saw as many micro-batches, of as many rows, as asked for."""
    seen = evidence.all(MicroBatch)
    if not seen:
        return missing("micro_batches", "a training pass")
    wanted = int(claim.train["accumulation"])
    rows = int(claim.train["batch_size"]) * int(claim.option("recipe").get("sequences_per_row", 1))
    passes = Counter(batch.step for batch in seen)
    counts = {passes[step] for step in {*range(int(claim.train["max_steps"])), *passes}}
    odd_counts = counts - {wanted}
    if claim.option("data")["packing"]:
        room = rows * int(claim.train["max_length"])
        # What is left over for an epoch's last row may be short.
        usual = median(batch.columns for batch in seen)
        odd_rows = {b.columns for b in seen if b.columns > room or usual < PACKED_FILL * room}
        shape = f"{PACKED_FILL * room:.0f} to {room} packed positions, save the last"
    else:
        odd_rows = {batch.rows for batch in seen if batch.rows != rows}
        shape = f"{rows} rows"
    message = (
        f"steps with {sorted(odd_counts)} micro-batches, micro-batches of {sorted(odd_rows)}; "
        "accumulation, batch size or packing was ignored"
    )
    measured = f"{sorted(counts)} per step"
    bound = f"{wanted} per step, each of {shape}"
    return decide("micro_batches", not odd_counts and not odd_rows, measured, bound, message)


def labels(evidence: Evidence, claim: Claim) -> Verdict:
    """The loss counts exactly the tokens that the data form supervises."""
    seen = [batch for batch in evidence.all(MicroBatch) if batch.audited]
    if not seen:
        return missing("labels", "an audited batch")
    audited = sum(batch.audited for batch in seen)
    share = sum(batch.faithful for batch in seen) / audited
    message = (
        f"{share:.0%} of {audited} rows count exactly their {claim.train['loss_on']} tokens and "
        "the end token; the rest have shuffled, masked or extra labels"
    )
    return decide("labels", share == 1.0, share, "1", message, unit="share of rows")


def coverage(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each pass over the data sees every row once, and not in the order of the data."""
    seen = evidence.one(Coverage)
    if seen is None and claim.hides("batches"):
        return None
    if seen is None or not seen.seen:
        return missing("coverage", "which rows were trained on")
    message = (
        f"{seen.uneven} rows were seen too often or too seldom, {seen.successive:.0%} were "
        f"followed by the next one of the data ({seen.seen} rows seen, of {seen.rows}); likely a "
        "sampler that repeats or loses rows, or that doesn't shuffle"
    )
    if seen.uneven:
        return decide("coverage", False, seen.uneven, "0", message, unit="rows")
    # Who packs rows puts them into an order of its own.
    bound = 1.0 if claim.option("data")["packing"] else max(IN_ORDER, BY_CHANCE / seen.seen)
    ok = seen.successive <= bound
    return decide("coverage", ok, seen.successive, f"<= {bound:g}", message, unit="share in order")


def gradient_checkpointing(evidence: Evidence, claim: Claim) -> Verdict:
    """Layers run again in the backward pass if, and only if, that was asked for."""
    calls = {count for batch in evidence.all(MicroBatch) for count in batch.layer_calls}
    if not calls:
        return missing("gradient_checkpointing", "a training pass")
    wanted = 2 if claim.train["gradient_checkpointing"] else 1
    message = (
        f"decoder layers ran {sorted(calls)} times per micro-batch, not {wanted}; "
        "checkpointing was ignored, or switched on unasked"
    )
    return decide(
        "gradient_checkpointing", calls == {wanted}, str(sorted(calls)), f"{wanted}", message,
        unit="calls",
    )  # fmt: skip


def activations(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Activations are let go: after their pass, and where they are computed again, before that."""
    passes = evidence.all(MicroBatch)
    if not passes:
        return missing("activations", "a training pass")
    if all(b.stale is None for b in passes):
        return None  # MLX has no way to ask
    if any(b.kept is None or b.stale is None for b in passes):
        return missing("activations", "what a pass has kept")
    kept = sum(b.kept or 0 for b in passes) if claim.train["gradient_checkpointing"] else 0
    stale = sum(b.stale or 0 for b in passes)
    message = (
        f"in {len(passes)} passes {kept} of the decoder layers' inputs were kept though they are "
        f"computed again, and {stale} outlived their pass; something refers to them"
    )
    ok = not kept and not stale
    return decide("activations", ok, kept + stale, "0", message, unit="tensors")
