"""Several processes trained one model: all of them, each on rows of its own, to one result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing
from tunematrix.evidence.events import Rank
from tunematrix.evidence.evidence import Evidence


def ranks(evidence: Evidence, claim: Claim) -> Verdict | None:
    """As many processes as asked for shared the rows, and ended with the same parameters."""
    launcher = claim.config.get("launcher", {})
    if "collectives" not in launcher:
        return None
    found = by_number(evidence)
    if not found:
        return missing("ranks", "what each process did")
    wanted = int(launcher["processes"])
    collectives = str(launcher["collectives"][claim.option("backend")["device"]])
    faults = [
        *_presence(found, wanted, collectives),
        *_shares(list(found.values())),
        *_parameters(list(found.values()), shards=bool(launcher["shards"])),
    ]
    unit = f"disagreements of {wanted} processes over {collectives}"
    return decide("ranks", not faults, len(faults), "0", "; ".join(faults), unit=unit)


def by_number(evidence: Evidence) -> dict[int, Rank]:
    """Return what each process said last, in the order of their numbers."""
    return {one.rank: one for one in sorted(evidence.all(Rank), key=lambda one: one.rank)}


def _presence(found: Mapping[int, Rank], wanted: int, collectives: str) -> Iterator[str]:
    if absent := [f"rank {number}" for number in range(wanted) if number not in found]:
        yield f"{listed(absent)} took no part"
    if odd := [one for one in found.values() if one.processes != wanted]:
        yield (
            f"rank {odd[0].rank} was one of {odd[0].processes} processes, not of {wanted}; its "
            "launcher's environment was ignored, so each trained alone"
        )
    if odd := [one for one in found.values() if one.collectives != collectives]:
        yield f"rank {odd[0].rank} communicated over {odd[0].collectives}, not {collectives}"


def _shares(found: Sequence[Rank]) -> Iterator[str]:
    if len({one.rows for one in found}) > 1 or not found[0].rows:
        yield f"their rows are {', '.join(str(one.rows) for one in found)}, no equal shares"
    for one, other in combinations(found, 2):
        if same := set(one.first_rows) & set(other.first_rows):
            yield (
                f"ranks {one.rank} and {other.rank} trained on {len(same)} of the same rows in "
                "the first step; likely a sampler that isn't distributed"
            )


def _parameters(found: Sequence[Rank], *, shards: bool) -> Iterator[str]:
    if odd := [one for one in found if one.parameters != found[0].parameters]:
        yield (
            f"rank {odd[0].rank} ended with other parameters than rank {found[0].rank}; likely "
            "gradients that aren't averaged, or other weights at the start"
        )
    whole = found[0].whole
    kept = sum(one.held for one in found) if shards else min(one.held for one in found)
    alone = shards and len(found) > 1 and any(one.held == whole for one in found)
    if kept != whole or alone:
        each = ", ".join(str(one.held) for one in found)
        how = "spread over them" if shards else "kept by each"
        yield f"they held {each} of {whole} elements, which should be {how}"
