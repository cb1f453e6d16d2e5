"""`-n 2`: two cells at a time, one writer, one matrix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

XDIST = ("-p", "xdist.plugin", "-n", "2")


def test_every_cell_runs_once(project: Project) -> None:
    """Records, exclusions, JUnit and matrix are whole, and each of them is there once."""
    project.option("quantizer", "refused", "capabilities: {recipe: {}}\n")
    project.spec("good", "succeed", quantizers="[plain, tiny-int4, refused]")
    project.spec("bad", "refuse", quantizers="[plain, tiny-int4]")
    run = project.pytest(*XDIST)
    good, bad = (
        ["good[plain-plain]", "good[plain-tiny-int4]"],
        ["bad[plain-plain]", "bad[plain-tiny-int4]"],
    )
    assert run.code == 1
    assert project.outcomes == {
        **dict.fromkeys(good, "passed"),
        **dict.fromkeys(bad, "failed"),
        "good[plain-refused]": "unsupported",
    }
    (run_id,) = {record["run_id"] for record in project.records}
    # Two runs may begin within the same second.
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run_id)
    assert project.junit() == {**dict.fromkeys(good, "passed"), **dict.fromkeys(bad, "failure")}
    assert run.text.count("= tunematrix plain =") == 1
    assert run.text.count("evidence: ") == 2
    assert [line.partition(": ")[0] for line in sorted(run.short_summary)] == [
        f"FAILED specs/bad.yaml::{cell} - exit" for cell in bad
    ]
