"""Which rows of the shipped table a change of releases may be."""

from __future__ import annotations

import pytest

from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.proof.releases.released import links_of

R1 = "https://github.com/huggingface/transformers/pull/34191"
"""transformers 4.45.2 has it, 4.46.0 doesn't, and same_updates notices."""


@pytest.mark.parametrize(
    ("good", "bad", "check", "is_told"),
    [
        ("4.46.0", "4.45.2", "same_updates", True),
        ("4.46.0", "4.45.2", "same_updates_mean", False),
        ("4.46.0", "4.45.2", "updates", False),
        ("4.44.0", "4.43.0", "same_updates", False),
    ],
)
def test_what_a_change_may_be(good: str, bad: str, check: str, is_told: bool) -> None:
    """Its releases lie on both sides, and the very check fails that notices it."""
    groups = read_groups([shipped_configs()])
    found = links_of("transformers", good, bad, (check,), groups, {})
    assert (R1 in found) is is_told


def test_what_is_raised() -> None:
    """An exception counts with the phase in which it is raised."""
    groups = read_groups([shipped_configs()])
    seen = {
        phase: links_of(
            "peft",
            "0.20.0",
            "0.19.1",
            (f"TypeError in {phase}",),
            groups,
            {"peft": "0.21.2"},
        )
        for phase in ("attach", "saving")
    }
    assert seen["attach"] and not seen["saving"]
