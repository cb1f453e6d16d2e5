"""What the step download must prove: what lies there is what the hub has of that revision."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import FetchedFile, StepFetched
from tunematrix.evidence.evidence import Evidence

_COMMIT = re.compile(r"[0-9a-f]{40}")


@check(
    name="step_fetched",
    group="pipeline",
    reads=(StepFetched,),
    unit="differences",
    bug=(
        "another revision than the one named, from a hub or mirror that answers with the newest or "
        "a folder that holds an older one; files that are lost, cut or changed on the way or after"
    ),
)
def step_fetched(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What a step has downloaded is, file by file, the commit that its revision names.

    Reads hashes of all files, taken from the disk after the download; the commit and the hashes
    that the hub names when it is asked apart from the download; and the receipt. Fails when a file
    is missing or has another hash than the hub or the receipt says, when the receipt is of another
    commit, or when the revision is itself a commit and the hub's is another. Without a network
    (HF_HUB_OFFLINE) the receipt is all there is to compare with.
    """
    steps = claim.config.steps
    if steps is None or steps.download is None or steps.dry_run:
        return None
    seen = evidence.all(StepFetched)
    if len(seen) < len(steps.download.models):
        return missing("what was downloaded")
    wrong = [f"{one.repo}: {text}" for one in seen for text in _differences(one)]
    message = (
        f"{listed(wrong)}; likely a mirror or a folder with another revision, or something that "
        "wrote to the folder after the download; remove the folder and download again"
    )
    return judge_by(Exactly(0), len(wrong), message)


def _differences(one: StepFetched) -> Iterator[str]:
    if _COMMIT.fullmatch(one.revision) and one.commit != one.revision:
        yield f"commit {one.revision} was asked for, and the hub answers with {one.commit}"
    if one.listed != one.commit:
        there = f"commit {one.listed}" if one.listed else "no commit that a receipt names"
        yield f"{one.revision} is commit {one.commit}, and what lies there is {there}"
    if not one.files:
        yield "no file was wanted"
    for file in one.files:
        if what := _difference(file):
            yield f"{file.path} {what}"


def _difference(file: FetchedFile) -> str:
    if not file.sha256:
        return "isn't there"
    known = {file.hub_sha256: file.sha256, file.hub_blob: file.blob}
    known.pop("", None)
    if not known:
        return "has no hash that the hub names"
    if any(said != found for said, found in known.items()):
        return "isn't what the hub has"
    return "" if file.sha256 == file.listed else "isn't what the receipt lists"
