"""The data of training: batches, labels, the rows they came from, and activations that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median_high

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import Coverage, MicroBatch
from tunematrix.evidence.evidence import Evidence

WRONG: Mapping[str, str] = {
    "cut": "are cut: they are part of a row of the data (truncation, or an end token left out)",
    "foreign": "are no rows of the data: texts were changed, mixed or tokenized otherwise",
    "masked": "are masked whole: nothing of them counts",
    "first": "count their first token, which is predicted from another text before it",
    "shifted": "have labels that aren't their own tokens: labels are shifted or shuffled",
    "others": "count other tokens: prompts or padding too many, or completions too few",
}
"""What is wrong with so many rows, as the end of a sentence on them."""
PACKED_FILL = 0.5
"""Share of the room; more is used, or two of the rows would fit into one. Where texts are short
beside the room, `_least_fill` knows more."""
BY_CHANCE = 6
"""Rows that a fair shuffle may leave before their next ones; one in 3,000 leaves as many."""
IN_ORDER = 0.5
"""Share of rows; shuffled, one of so many rows as there are is followed by its next."""


@check(
    name="labels",
    group="training",
    reads=(MicroBatch,),
    unit="share of rows",
    bug=(
        "end tokens masked as padding "
        "([trl#1623](https://github.com/huggingface/trl/issues/1623), "
        "[trl#3091](https://github.com/huggingface/trl/issues/3091)); labels shifted, "
        "shuffled or over the prompt; padding that is attended to; a tokenizer whose rules "
        "differ from its file's "
        "([transformers#45920](https://github.com/huggingface/transformers/issues/45920))"
    ),
)
def labels(evidence: Evidence, claim: Claim) -> Judgement:
    """The loss counts exactly the tokens that the data form trains on.

    Reads the ids, labels and attention mask of every row of every batch (in MLX, the tokens
    that the loss counts in the first steps). They are held against the rows of the training
    data, tokenized by the checkpoint's tokenizer.json alone. Fails when a row, without its
    padding, differs from its row of the data, or when other tokens count than its supervised
    text and the end token. Warns of rows that are cut because `train.too_long` allows it.
    """
    seen = [batch for batch in evidence.all(MicroBatch) if batch.audited]
    if not seen:
        return missing("an audited batch")
    audited = sum(batch.audited for batch in seen)
    share = sum(batch.faithful for batch in seen) / audited
    wrong = sum((Counter(batch.wrong) for batch in seen), Counter[str]())
    causes = [f"{count} {WRONG[kind]}" for kind, count in wrong.most_common()]
    message = (
        f"in {share:.0%} of {audited} rows the loss counts exactly the right tokens "
        f"({claim.config.train.loss_on}) and the end token; of the others, "
        f"{'; '.join(causes) or 'nothing is known'}"
    )
    found = judge_by(Exactly(1), share, message)
    if found.outcome == "passed" and (cut := sum(batch.cut for batch in seen)):
        told = (
            f"{cut} of {audited} rows were cut to train.max_length="
            f"{claim.config.train.max_length} tokens, as train.too_long=cut allows: nothing "
            "learns how they end"
        )
        return replace(found, outcome="warned", message=told)
    return found


@check(
    name="micro_batches",
    group="training",
    reads=(MicroBatch,),
    bug="accumulation, batch size or packing that is ignored",
)
def micro_batches(evidence: Evidence, claim: Claim) -> Judgement:
    """Each optimizer step has the configured number of micro-batches and rows.

    Reads the rows, positions and forward passes of each optimizer step. Fails when they don't
    follow from `train.batch_size` × `train.accumulation`, or packed rows aren't full.
    """
    seen = evidence.all(MicroBatch)
    if not seen:
        return missing("a training pass")
    wanted = claim.config.train.accumulation
    rows = claim.config.train.batch_size * claim.config.recipe.sequences_per_row
    passes = Counter(batch.step for batch in seen)
    counts = {passes[step] for step in {*range(claim.config.train.max_steps), *passes}}
    odd_counts = counts - {wanted}
    if claim.config.data.packing:
        room = rows * claim.config.train.max_length
        # The last row of an epoch may be short.
        usual = median_high(batch.columns for batch in seen)
        fill = _least_fill(seen, claim.config.train.max_length)
        odd_rows = {b.columns for b in seen if b.columns > room or usual <= fill * room}
        shape = f"more than {fill * room:.0f} of {room} packed positions, save the last"
    else:
        odd_rows = {batch.rows for batch in seen if batch.rows != rows}
        shape = f"{rows} rows"
    message = (
        f"steps with {sorted(odd_counts)} micro-batches, micro-batches of {sorted(odd_rows)}; "
        "accumulation, batch size or packing was ignored"
    )
    measured = f"{', '.join(map(str, sorted(counts)))} per step"
    bound = Exactly(f"{wanted} per step", note=f"each of {shape}")
    return judge_by(bound, measured, message, provided=not odd_rows)


def _least_fill(seen: Sequence[MicroBatch], room: int) -> float:
    """Return the share of a packed row that is used, but of the last one.

    A row is full when no text fits into it any more, so what is left is less than the longest text;
    and so many of those as fit side by side have room in each row, even if all are the shortest.
    """
    spans = [batch.texts for batch in seen if batch.texts is not None]
    if not spans:
        return PACKED_FILL
    shortest, longest = (min(size, room) for size in spans[0])
    by_count = (room // longest) * shortest / room
    return max(PACKED_FILL, 1 - longest / room, by_count - 1 / room)


@check(
    name="coverage",
    group="texts",
    reads=(Coverage,),
    unit="share in order",
    bug=(
        "samplers that repeat or lose rows, or start again when training is resumed; data "
        "that is never shuffled"
    ),
)
def coverage(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each pass over the data sees every row once, in shuffled order.

    Reads how often and in which order the rows were trained on (not in MLX, where only the
    batches of the first steps are read). Fails when a row was seen more or less often than
    whole passes over the data give, or when more than half of the rows are followed by their
    successor in the data. The order isn't judged for packed data, nor for a stream.
    """
    seen = evidence.one(Coverage)
    if seen is None and claim.hides("batches"):
        return None
    if seen is None:
        return missing("which rows were trained on")
    if not seen.seen:
        none = "nothing that was trained on is a row of the data; `labels` says what it is"
        return judge_by(AtLeast(1), 0, none, unit="rows")
    message = (
        f"{seen.uneven} rows were seen too often or too seldom, {seen.successive:.0%} were "
        f"followed by the next one of the data ({seen.seen} rows seen, of {seen.rows}); likely a "
        "sampler that repeats or loses rows, or that doesn't shuffle"
    )
    if seen.uneven:
        return judge_by(Exactly(0), seen.uneven, message, unit="rows")
    # Who packs rows puts them into an order of its own, and a stream has one already.
    has_order = claim.config.data.packing or claim.config.train.streaming
    most = 1.0 if has_order else max(IN_ORDER, BY_CHANCE / seen.seen)
    return judge_by(AtMost(most), seen.successive, message)


@check(
    name="row_order",
    group="texts",
    reads=(Coverage,),
    unit="rows",
    bug=(
        "rows that are sorted or filtered by length; a seed for the data that is another than the "
        "run's; one and the same order in every pass; a resumed run that begins its pass again"
    ),
)
def row_order(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Rows come in the order that the seed gives, in each pass in another one.

    Reads the order in which rows were trained on, and the same by the rule of the trainer: each
    pass is a permutation drawn from `train.seed` plus the pass's number. Fails when a row comes
    where another one should. Not judged for packed rows, nor where the rule isn't known (MLX, and
    loops of your own), nor where no row is one of the data, which `coverage` tells.
    """
    seen = evidence.one(Coverage)
    if seen is None and claim.hides("batches"):
        return None
    if seen is None:
        return missing("the order of the rows")
    if seen.strayed is None or not seen.seen:
        return None
    message = (
        f"{seen.strayed} rows came where seed {claim.config.train.seed} has others "
        f"({seen.seen} rows seen, of {seen.rows}); likely rows that were filtered or sorted, "
        "another seed for the data, or an order that is the same in each pass"
    )
    return judge_by(Exactly(0), seen.strayed, message)


@check(
    name="gradient_checkpointing",
    group="training",
    reads=(MicroBatch,),
    unit="calls",
    bug="checkpointing that is ignored, or switched on by a library",
)
def gradient_checkpointing(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Layers run again in the backward pass if the configuration says so, and only then.

    Reads how often each decoder layer ran in each forward and backward pass. Fails when that
    isn't twice with checkpointing, or once without. Not judged of a compiled model.
    """
    if claim.hides("layers"):
        return None
    calls = {count for batch in evidence.all(MicroBatch) for count in batch.layer_calls}
    if not calls:
        return missing("a training pass")
    wanted = 2 if claim.config.train.gradient_checkpointing else 1
    measured = ", ".join(map(str, sorted(calls)))
    message = (
        f"decoder layers ran {measured} times per micro-batch, not {wanted}; "
        "checkpointing was ignored, or switched on unasked"
    )
    return judge_by(Exactly(f"{wanted}"), measured, message)


@check(
    name="computed_once",
    group="training",
    reads=(MicroBatch,),
    unit="passes",
    bug="a batch that is computed again for figures that nobody reads: a third more time",
)
def computed_once(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each micro-batch goes through the model once.

    Reads how often the model computes in training mode without a gradient being taken (PyTorch
    only). Fails when it does; with smoothed labels, when it does more than once for a batch, since
    TRL 1.16 computes each again for its figures. Not judged of recipes that prefer, whose reference
    takes such passes.
    """
    passes = evidence.all(MicroBatch)
    if claim.config.recipe.prefers:
        return None
    if not passes:
        return missing("a training pass")
    if all(one.beside is None for one in passes):
        return None  # MLX has no way to ask
    beside = sum(one.beside or 0 for one in passes)
    message = (
        f"beside {len(passes)} passes of training there were {beside} in training mode without a "
        "gradient; likely a batch that is computed twice, or an evaluation that drops out"
    )
    smoothed = claim.config.train.label_smoothing > 0
    return judge_by(AtMost(len(passes)) if smoothed else Exactly(0), beside, message)


@check(
    name="activations",
    group="training",
    reads=(MicroBatch,),
    unit="tensors",
    bug="checkpointing that saves no memory; losses and outputs that are kept with their graph",
)
def activations(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Activations are freed after their pass; with checkpointing, during the forward pass.

    Reads whether the inputs of the decoder's layers are still in memory after the forward pass,
    and when the next pass begins (PyTorch only). Fails when one is kept although checkpointing
    computes it again, or outlives its pass. Not judged of a compiled model.
    """
    if claim.hides("layers"):
        return None
    passes = evidence.all(MicroBatch)
    if not passes:
        return missing("a training pass")
    if all(b.stale is None for b in passes):
        return None  # MLX has no way to ask
    if any(b.kept is None or b.stale is None for b in passes):
        return missing("what a pass has kept")
    kept = sum(b.kept or 0 for b in passes) if claim.config.train.gradient_checkpointing else 0
    stale = sum(b.stale or 0 for b in passes)
    message = (
        f"in {len(passes)} passes {kept} of the decoder layers' inputs were kept though they are "
        f"computed again, and {stale} outlived their pass; something refers to them"
    )
    return judge_by(Exactly(0), kept + stale, message)
