from __future__ import annotations

from tunematrix.checks.bound import AtMost
from tunematrix.proof.soak.margins import Margin, Soak
from tunematrix.proof.soak.view import summary
from tunematrix.report.terminal import render

NEAR = Margin("memory_process_peak", "memory[cpu-full]@4", 471.0, AtMost(500), "MB", 0.058, 140)
FAR = Margin(
    "optimizer_update", "a[cpu-lora-none]@0", 3e-8, AtMost(0.0005), "of the update", 1.0, 20
)


def shown(changed: dict[str, dict[str, list[str]]], *margins: Margin) -> list[str]:
    """Return the lines of a terminal of 80 columns."""
    text = render(summary(Soak(20, 7, 140, changed, margins)), 80, colour=False)
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_margins_on_two_lines_each() -> None:
    """No name is folded, and brackets are no markup."""
    lines = shown({}, NEAR, FAR)
    assert lines[3].split() == ["memory_process_peak", "6%", "471", "MB;", "bound", "<=", "500"]
    assert lines[4].split() == ["140", "runs", "memory[cpu-full]@4"]
    assert lines[6].split() == ["20", "runs", "a[cpu-lora-none]@0"]
    assert lines[-1] == "140 runs of 7 cells and relations, 20 seeds: 0 outcomes changed"


def test_outcomes_that_changed() -> None:
    """With the seeds of each, the first five by name."""
    seeds = [str(seed) for seed in range(1, 20)]
    *_, told, rest, total = shown({"a[cpu]": {"failed": ["0"], "passed": seeds}})
    assert f"{told} {rest}" == (
        "changed: a[cpu]: failed under seed 0; passed under seeds 1, 2, 3, 4, 5 and 14 more"
    )
    assert total.endswith("1 outcome changed")
