"""What a variant changes is told as outcomes and versions, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from tunematrix.report.changes import changed_cells, changed_versions, compared
from tunematrix.results.record import Record

LOCKED = Record(
    run_id="20261122-101500-123",
    cell_id="lora[cpu-lora-none]",
    spec="lora.yaml",
    environment="cpu",
    axes={},
    outcome="passed",
    versions={"peft": "0.21.2", "trl": "1.16.0"},
)
BROKEN = replace(
    LOCKED,
    environment="cpu-latest",
    outcome="failed",
    reason="moved: 0 of 28",
    versions={"peft": "0.22.0", "trl": "1.16.0", "mlx": "1"},
)


def test_a_changed_outcome_is_told() -> None:
    """With what it was, what it is and why."""
    (change,) = changed_cells([BROKEN], [LOCKED])
    assert (change.before, change.now, change.reason) == ("passed", "failed", "moved: 0 of 28")
    assert compared([BROKEN], [LOCKED], "cpu").splitlines() == [
        "compared with cpu: mlx – → 1, peft 0.21.2 → 0.22.0",
        "  lora[cpu-lora-none]: passed → failed moved: 0 of 28",
        "  0 of 1 cells end as they do in cpu",
    ]


def test_the_newest_locked_record_counts() -> None:
    """An older failure under the lock has been mended since."""
    assert not changed_cells([LOCKED], [BROKEN, LOCKED])
    assert changed_cells([LOCKED], [LOCKED, BROKEN])


def test_a_cell_without_a_locked_record_is_a_change() -> None:
    """Nothing vouches for it having worked."""
    other = replace(LOCKED, cell_id="other")
    assert changed_cells([other], [LOCKED])[0].before is None


def test_equal_runs_have_no_rows() -> None:
    """Equal versions and outcomes are no noise."""
    assert changed_versions([LOCKED], [LOCKED]) == {}
    assert compared([LOCKED], [LOCKED], "cpu").splitlines() == [
        "compared with cpu: the same versions",
        "  1 of 1 cells end as they do in cpu",
    ]


def test_no_locked_record_at_all() -> None:
    """Nothing can be said, which is said, with what to do."""
    assert "run nox -s cpu" in compared([LOCKED], [], "cpu")


def test_versions_that_were_not_recorded_are_not_the_same() -> None:
    """A run that crashed before it told its versions vouches for none."""
    crashed = replace(LOCKED, versions={})
    assert changed_versions([crashed], [LOCKED]) is None
    assert "versions weren't recorded" in compared([crashed], [LOCKED], "cpu")


def test_what_is_unsupported_is_no_change() -> None:
    """A probe of the locked environment has tried it, and that is another question."""
    probed = replace(LOCKED, outcome="known_failure")
    text = compared([LOCKED, replace(probed, cell_id="x", outcome="unsupported")], [LOCKED], "cpu")
    assert text.endswith("1 of 1 cells end as they do in cpu")
