"""The check of downloads: honest evidence passes, and each planted fault fails it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.evidence.events import FetchedFile, StepFetched

if TYPE_CHECKING:
    from tests.unit.conftest import Run

OTHER = "e" * 40


def _file(run: Run, position: int, **fields: Any) -> Run:
    """Change one file."""
    files = list(run.evidence.all(StepFetched)[0].files)
    files[position] = replace(files[position], **fields)
    return run.edited(StepFetched, files=tuple(files))


# What is planted, and a part of the message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str]] = {
    "a hub that answers with another commit": (
        lambda run: run.edited(StepFetched, revision=OTHER),
        f"commit {OTHER} was asked for, and the hub answers with {'c' * 40}",
    ),
    "a folder that holds an older commit": (
        lambda run: run.edited(StepFetched, listed=OTHER),
        f"main is commit {'c' * 40}, and what lies there is commit {OTHER}",
    ),
    "no receipt": (
        lambda run: run.edited(StepFetched, listed=""),
        "what lies there is no commit that a receipt names",
    ),
    "a small file that was changed": (
        lambda run: _file(run, 0, sha256="9" * 64, blob="9" * 40),
        "config.json isn't what the hub has",
    ),
    "a large file that was changed": (
        lambda run: _file(run, 1, sha256="9" * 64, blob="9" * 40),
        "model.safetensors isn't what the hub has",
    ),
    "a file of another commit, and a receipt that says so": (
        lambda run: _file(run, 1, sha256="9" * 64, listed="9" * 64),
        "model.safetensors isn't what the hub has",
    ),
    "a receipt that lists another content": (
        lambda run: _file(run, 0, listed="9" * 64),
        "config.json isn't what the receipt lists",
    ),
    "a file that the receipt doesn't list": (
        lambda run: _file(run, 0, listed=""),
        "config.json isn't what the receipt lists",
    ),
    "a file that is missing": (
        lambda run: _file(run, 1, sha256="", blob=""),
        "model.safetensors isn't there",
    ),
    "a file that nobody has a hash of": (
        lambda run: _file(run, 1, hub_sha256=""),
        "has no hash that the hub names",
    ),
    "no files": (lambda run: run.edited(StepFetched, files=()), "no file was wanted"),
    "nothing written down": (lambda run: run.without(StepFetched), "what was downloaded"),
}


def test_honest_evidence_passes(fetching: Run) -> None:
    """The check speaks."""
    assert fetching.failed() == set()
    assert "step_fetched" in fetching.verdicts()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_it_alone(fetching: Run, name: str) -> None:
    """With what was found, and a likely cause."""
    plant, message = PLANTED[name]
    planted = plant(fetching)
    assert planted.failed() == {"step_fetched"}
    assert message in planted.verdicts()["step_fetched"].message


@pytest.mark.parametrize("seed", range(20))
def test_honest_variations_pass(fetching: Run, seed: int) -> None:
    """Files large and small, branches and commits, with a network and without, several models."""
    draw = Random(seed)

    def digest(letters: int) -> str:
        return f"{draw.getrandbits(letters * 4):0{letters}x}"

    def model(number: int) -> StepFetched:
        commit, is_offline = digest(40), draw.random() < 0.3
        files = []
        for place in range(draw.randint(1, 30)):
            sha256, blob = digest(64), digest(40)
            is_large = is_offline or draw.random() < 0.5
            said = (sha256, "") if is_large else ("", blob)
            files.append(FetchedFile(f"{place}", draw.randint(0, 9), *said, sha256, sha256, blob))
        revision = draw.choice(["main", "v1.0", "refs/pr/3", commit, commit[:7]])
        hub = "" if is_offline else "https://hub"
        repo = f"owner/{number}"
        return StepFetched("download", repo, revision, hub, commit, commit, "x", tuple(files))

    count = draw.randint(1, 3)
    models = [{"repo": "a", "files": ["*"], "output_dir": f"{n}"} for n in range(count)]
    several = fetching.configured(steps={"download": {"models": models}})
    assert several.recording(*(model(n) for n in range(count))).failed() == set()


def test_what_was_not_asked_for_is_not_judged(fetching: Run) -> None:
    """No such step, and one that fetches nothing."""
    bare = fetching.without(StepFetched)
    for steps in ({"download": None}, {"dry_run": True}):
        assert "step_fetched" not in bare.configured(steps=steps).verdicts()
