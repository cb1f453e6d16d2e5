"""Faults of training that is watched: each of them fails its own check, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.checks.planted.while_watched import PLANTED
from tests.unit.watched import Change, changed, fields, with_records

from tunematrix.probe.tunematrix_probe.records import SeenCoverage, SeenMoved

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.mark.parametrize("fault", PLANTED)
def test_each_fault_fails_its_check(watching: Run, fault: str) -> None:
    """And no other one."""
    kind, change, name, words = PLANTED[fault]
    run = with_records(watching, kind, change)
    assert run.failed() == {name}
    assert words in run.verdicts()[name].message


# A fault of a model, and what is left to see of it once the model is gone.
GONE: dict[str, tuple[type[Any], Change, Change]] = {
    "watched_trainable": (
        SeenCoverage,
        fields(missing=2, missing_names=("head",)),
        fields(trainable=0, missing=0),
    ),
    "watched_moved": (
        SeenMoved,
        fields(moved=3, unmoved_names=("norm",)),
        fields(trained=0, moved=0, frozen=0),
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_a_model_that_is_gone_when_the_process_ends(watching: Run, name: str) -> None:
    """What was seen of it before counts: a function that trained has returned by then."""
    kind, fault, gone = GONE[name]
    (process,) = watching.evidence.watched
    faulty = changed(process, kind, fault)
    at_exit = replace(faulty, records=(*faulty.records, *map(gone, faulty.all(kind))))
    assert watching.leaving(watched=(at_exit,)).failed() == {name}
