"""Several processes trained one model: all of them, each on rows of its own, to one result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import Rank
from tunematrix.evidence.evidence import Evidence


@check(
    name="ranks",
    group="training",
    reads=(Rank,),
    unit="disagreements",
    bug=(
        "processes that each train alone, samplers that aren't distributed, or repeat the rows of "
        "one process, gradients that "
        "aren't averaged ([trl#7245](https://github.com/huggingface/trl/issues/7245), "
        "[sd-scripts#924](https://github.com/kohya-ss/sd-scripts/issues/924))"
    ),
)
def ranks(evidence: Evidence, claim: Claim) -> Judgement | None:
    """All processes of the launcher share the rows, and end with the same parameters.

    Reads the group, the rows, the final parameters and the kept share of them that each process
    reports. Fails when a process took no part, trained in another group or on another's rows, on
    rows of its own too often or in another order than the seed's, ended with other parameters, or
    kept more or less of them than its launcher declares.
    """
    launcher = claim.config.launcher
    if not launcher.collectives:
        return None
    reports = by_number(evidence)
    if not reports:
        return missing("what each process did")
    wanted = launcher.processes
    collectives = launcher.collectives[claim.config.backend.device]
    faults = [
        *_presence(reports, wanted, collectives),
        *_shares(list(reports.values())),
        *_parameters(list(reports.values()), shards=launcher.shards),
    ]
    unit = f"disagreements of {wanted} processes over {collectives}"
    return judge_by(Exactly(0), len(faults), "; ".join(faults), unit=unit)


def by_number(evidence: Evidence) -> dict[int, Rank]:
    """Return the last report of each process, in the order of their numbers."""
    return {one.rank: one for one in sorted(evidence.all(Rank), key=lambda one: one.rank)}


def _presence(reports: Mapping[int, Rank], wanted: int, collectives: str) -> Iterator[str]:
    if absent := [f"rank {number}" for number in range(wanted) if number not in reports]:
        yield f"{listed(absent)} took no part"
    if odd := [one for one in reports.values() if one.processes != wanted]:
        yield (
            f"rank {odd[0].rank} was one of {odd[0].processes} processes, not of {wanted}; its "
            "launcher's environment was ignored, so each trained alone"
        )
    if odd := [one for one in reports.values() if one.collectives != collectives]:
        yield f"rank {odd[0].rank} communicated over {odd[0].collectives}, not {collectives}"


def _shares(reports: Sequence[Rank]) -> Iterator[str]:
    if len({one.rows for one in reports}) > 1 or not reports[0].rows:
        yield f"their rows are {', '.join(str(one.rows) for one in reports)}, no equal shares"
    for one, other in combinations(reports, 2):
        if same := set(one.first_rows) & set(other.first_rows):
            yield (
                f"ranks {one.rank} and {other.rank} trained on {len(same)} of the same rows in "
                "the first step; likely a sampler that isn't distributed"
            )
    for one in reports:
        if one.uneven or one.strayed:
            yield (
                f"rank {one.rank} trained on {one.uneven} rows too often, and on "
                f"{one.strayed or 0} where the seed has others; likely a loader that begins anew"
            )


def _parameters(reports: Sequence[Rank], *, shards: bool) -> Iterator[str]:
    if odd := [one for one in reports if one.parameters != reports[0].parameters]:
        yield (
            f"rank {odd[0].rank} ended with other parameters than rank {reports[0].rank}; likely "
            "gradients that aren't averaged, or other weights at the start"
        )
    whole = reports[0].whole
    kept = sum(one.held for one in reports) if shards else min(one.held for one in reports)
    alone = shards and len(reports) > 1 and any(one.held == whole for one in reports)
    if kept != whole or alone:
        each = ", ".join(str(one.held) for one in reports)
        how = "spread over them" if shards else "kept by each"
        yield f"they held {each} of {whole} elements, which should be {how}"
