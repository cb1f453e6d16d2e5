"""What a watched process learns from: its rows, their labels, and what they weigh in the loss."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by
from tunematrix.checks.watched import trainers_in, worst_of
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    ProbeStarted,
    SeenBatch,
    SeenLoaderWorker,
    SeenLoss,
    SeenWeights,
)

MOST = 0.9
"""Share of positions that settles what a target is."""
LEAST_TARGETS = 16
"""Positions below which that may be chance."""
SAME_STEPS = 4
"""Steps with the same rows that are no accident."""
REPEATED = 0.2
"""Share of rows that are drawn again while others have yet to come; more is unusual."""
FULL = 0.5
"""Share of positions that aren't padding; less is unusual."""


@check(
    name="watched_labels",
    group="watch",
    unit="positions",
    bug=(
        "labels that are shifted by the data and by the model again, or by neither; padding that "
        "counts; batches in which everything is masked; end tokens that a collator masks as padding"
    ),
)
def watched_labels(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each token of a language model is taught from the position before it, and padding isn't.

    Reads labels and masks of the batches and, where the loss is a cross-entropy, which target each
    position really has: the gradient at its logits tells. Fails when the targets are the tokens of
    the same position, or of the one after the next; when more padding counts than one position of
    each row; or when no position of any batch has a label. Warns when all of one batch is masked,
    or the end tokens of all rows are.
    """
    found: list[Judgement] = []
    for process in trainers_in(evidence, "watched_labels"):
        found += _shifts(process.all(SeenLoss))
        found += _masks([batch for batch in process.all(SeenBatch) if batch.tokenized])
    return worst_of(found)


def _shifts(losses: Sequence[SeenLoss]) -> Iterator[Judgement]:
    """Yield what is to say of the targets of a language model's loss."""
    mine = [one for one in losses if one.fits > MOST]
    counted_in = sum(one.counted for one in mine)
    if counted_in < LEAST_TARGETS:
        return
    bound = AtLeast(MOST, note="share of the targets that are the next token")
    following = sum(one.targets_next for one in mine) / counted_in
    same = sum(one.targets_same for one in mine) / counted_in
    second = sum(one.targets_second for one in mine) / counted_in
    if second > MOST > following:
        text = (
            "positions are taught the token after the next one: the labels are shifted twice, by "
            "the data and by the model; give labels that are the input_ids themselves"
        )
        yield judge_by(bound, following, text, provided=False, unit="of the targets")
    elif same > MOST > following:
        text = (
            "positions are taught the token that they are given, so the loss falls and nothing is "
            "learned; shift the labels by one position before the loss"
        )
        yield judge_by(bound, following, text, provided=False, unit="of the targets")
    else:
        yield Judgement("passed", following, None, "", "of the targets are the next token")


def _masks(batches: Sequence[SeenBatch]) -> Iterator[Judgement]:
    """Yield what is to say of labels and padding."""
    labelled = [batch for batch in batches if batch.labelled is not None]
    if not labelled:
        return
    if not any(batch.labelled for batch in labelled):
        text = "no position of any batch has a label, so there is nothing to learn; look for what "
        yield judge_by(AtLeast(1), 0, f"{text}masks them (-100): a template that isn't found?")
        return
    padded = [(batch.padding_labelled or 0, batch) for batch in labelled]
    most, batch = max(padded, key=lambda one: one[0] / max(1, one[1].rows))
    if most:
        text = (
            f"in step {batch.step + 1}, labels are on {counted(most, 'position')} of padding, in "
            f"{counted(batch.rows, 'row')}; set their labels to -100"
        )
        bound = AtMost(batch.rows)
        # One for each row teaches the end, where the padding token is the end token.
        yield (
            judge_by(bound, most, text)
            if most > batch.rows
            else Judgement("warned", most, bound, text)
        )
    else:
        taught = sum(batch.labelled or 0 for batch in labelled)
        yield Judgement("passed", taught, AtLeast(1), "", "positions with a label")
    if empty := [batch for batch in labelled if not batch.labelled]:
        text = f"{counted(len(empty), 'batch')} of {len(labelled)} have no label at all"
        yield Judgement("warned", len(empty), Exactly(0), text, "batches")
    ends = sum(batch.ends or 0 for batch in labelled)
    if ends and not sum(batch.ends_labelled or 0 for batch in labelled):
        text = (
            f"the end tokens of {counted(ends, 'row')} have no label, so the model never learns to "
            "stop; likely the padding token is the end token, and the collator masks both"
        )
        yield Judgement("warned", 0, AtLeast(1), text, "end tokens")


@check(
    name="watched_batches",
    group="watch",
    unit="rows",
    bug=(
        "an iterator that is made anew in each step, ranks without a sampler of their own, workers "
        "of a data loader that all draw the same random numbers"
    ),
)
def watched_batches(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Steps learn from different rows, and so do processes and workers.

    Reads a digest of each row of each batch, and the generators of a data loader's workers. Fails
    when processes that average their gradients get the same rows, or when workers draw from one
    generator in the same state. Warns when four steps or more are made with the very same rows,
    when rows come again while others have yet to come, and when more than half of the positions are
    padding.
    """
    trainers = trainers_in(evidence, "watched_batches")
    found: list[Judgement] = []
    for process in trainers:
        found += [*_constant(_rows(process)), *_padding(process.all(SeenBatch))]
    found += [*_again(trainers), *_shared(trainers), *_workers(evidence.watched)]
    return worst_of(found)


Rows = dict[int, tuple[str, ...]]
"""Step to the digests of its rows, in order."""


def _rows(process: WatchedProcess) -> Rows:
    rows: dict[int, tuple[str, ...]] = defaultdict(tuple)
    for batch in process.all(SeenBatch):
        rows[batch.step] += batch.digests
    return dict(rows)


def _constant(steps: Rows) -> Iterator[Judgement]:
    bound = AtLeast(2, note="batches that differ")
    batches = list(steps.values())
    if len(batches) >= SAME_STEPS and len(set(batches)) == 1:
        text = (
            f"all {len(batches)} steps were made with the same {counted(len(batches[0]), 'row')}; "
            "right if there are no others; else an iterator is made anew for each step"
        )
        yield Judgement("warned", 1, bound, text, "batches")
    elif batches:
        rows = {row for batch in batches for row in batch}
        yield Judgement("passed", len(rows), None, "", "different rows")


def _again(trainers: Sequence[WatchedProcess]) -> Iterator[Judgement]:
    """Yield what is to say of texts that come again before all have come, in any process."""
    steps: dict[tuple[int, int], set[str]] = defaultdict(set)
    for process in trainers:
        for batch in process.all(SeenBatch):
            if batch.tokenized:
                steps[batch.model, batch.step].update(batch.digests)
    for model in {model for model, _ in steps}:
        batches = [rows for (which, _), rows in sorted(steps.items()) if which == model]
        yield from _too_early(batches)


def _too_early(batches: Sequence[Set[str]]) -> Iterator[Judgement]:
    rows = [row for batch in batches for row in sorted(batch)]
    last_new = max((rows.index(row) for row in set(rows)), default=0)
    early = rows[: last_new + 1]
    again = len(early) - len(set(early))
    if len(batches) >= SAME_STEPS and again > REPEATED * len(early):
        text = (
            f"of the first {len(early)} rows, {again} had been seen before, while others had yet "
            "to come; likely rows are drawn with replacement, or an epoch is cut short, or the "
            "data holds the same row several times"
        )
        yield Judgement("warned", again, AtMost(REPEATED * len(early)), text)


def _padding(batches: Sequence[SeenBatch]) -> Iterator[Judgement]:
    mine = [batch for batch in batches if batch.tokenized]
    positions = sum(batch.rows * batch.columns for batch in mine)
    tokens = sum(batch.tokens for batch in mine)
    if positions and tokens < FULL * positions:
        share = tokens / positions
        text = f"{1 - share:.0%} of the positions are padding; group rows by length, or pack them"
        yield Judgement("warned", share, AtLeast(FULL), text, "of the positions")


def _shared(trainers: Sequence[WatchedProcess]) -> Iterator[Judgement]:
    """Yield what is to say of rows of several processes that hold whole models."""
    together = [one for one in trainers if (seen := one.one(SeenWeights)) and seen.backend]
    if len(together) < 2 or not all(w.whole for one in together for w in one.all(SeenWeights)):
        return
    first, *others = ({row for rows in _rows(one).values() for row in rows} for one in together)
    same = [rows & first for rows in others]
    if first and all(len(rows) > MOST * len(first) for rows in same):
        text = (
            f"{len(together)} processes that train together all got the same rows; likely the "
            "loader has no DistributedSampler, or wasn't prepared"
        )
        yield judge_by(AtMost(0), len(first), text, unit="rows in common")


def _workers(processes: Sequence[WatchedProcess]) -> Iterator[Judgement]:
    """Yield what is to say of workers whose generators are in the same state, and used."""
    loaders: dict[tuple[int, int], list[SeenLoaderWorker]] = defaultdict(list)
    for process in processes:
        started = process.one(ProbeStarted)
        parent = 0 if started is None else started.parent
        for worker in process.all(SeenLoaderWorker):
            loaders[parent, worker.loader].append(worker)
    for workers in loaders.values():
        for name in sorted({name for worker in workers for name in worker.used}):
            states = Counter(one.states[name] for one in workers if name in one.used)
            twins = max(states.values())
            if twins > 1:
                text = (
                    f"{twins} workers of a data loader draw the same numbers from {name}, so they "
                    "augment or sample alike; give each its seed in worker_init_fn"
                )
                yield judge_by(AtMost(1), twins, text, unit="workers in one state")
