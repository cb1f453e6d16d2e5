from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.proof.faults.score import Fate, Finding, score, shortfalls, to_json


def finding(fate: Fate, silent: bool = True, fault_class: str = "data") -> Finding:
    """What became of a fault."""
    return Finding(f"{fault_class}.{fate}", fault_class, "Does harm.", fate, silent)


def test_crashes_and_broken_faults_do_not_count() -> None:
    """A crash is noticed by anybody."""
    found = score([finding("detected"), finding("crashed"), finding("broken"), finding("missed")])
    assert (found.detected, found.of, found.share) == (1, 2, 0.5)


def test_what_was_never_reached_counts_against_the_suite() -> None:
    """Or a catalogue of nothing would score best."""
    assert score([finding("detected"), finding("unreached")]).share == 0.5


def test_nothing_tried_is_nothing_missed() -> None:
    """A class without a fault is short of nothing."""
    assert score([]).share == 1.0


def test_a_run_that_measured_nothing_keeps_no_promise() -> None:
    """Where every fault crashed, nothing says what the checks would have noticed."""
    assert shortfalls([finding("crashed"), finding("broken")]) == [
        "nothing was measured: every fault crashed, or is broken"
    ]


def test_promises_kept() -> None:
    """95 % of all is enough."""
    rows = [finding("detected") for _ in range(19)] + [finding("missed", silent=False)]
    assert shortfalls(rows) == []


@pytest.mark.parametrize(
    ("detected", "missed", "told"),
    [
        (18, [finding("missed", silent=False)] * 2, "18 of 20 detected of all, 95% promised"),
        (
            39,
            [finding("missed", fault_class="loss")],
            "0 of 1 detected of class loss, 80% promised",
        ),
    ],
)
def test_promises_broken(detected: int, missed: list[Finding], told: str) -> None:
    """Told apart: of all, and of a class."""
    found = shortfalls([*(finding("detected") for _ in range(detected)), *missed])
    assert any(line.startswith(told) for line in found)


def test_silent_ones_have_a_promise_of_their_own() -> None:
    """Loud ones can lift the whole, and not them."""
    loud = [finding("detected", silent=False) for _ in range(40)]
    quiet = [finding("detected"), finding("detected"), finding("missed")]
    assert "2 of 3 detected of the silent ones, 90% promised" in shortfalls([*loud, *quiet])


def test_as_json() -> None:
    """The fields that others rely on."""
    rows = [
        finding("detected"),
        finding("missed"),
        finding("crashed"),
        finding("unreached"),
        finding("detected", silent=False, fault_class="loss"),
    ]
    data = to_json(rows)
    assert {key: data[key] for key in ("total", "detected", "silent", "silent_detected")} == {
        "total": 5,
        "detected": 2,
        "silent": 2,
        "silent_detected": 1,
    }
    assert data["missed"] == ["data.missed"]
    assert data["crashed"] == ["data.crashed"]
    assert data["unreached"] == ["data.unreached"]
    assert data["by_class"]["loss"] == {"total": 1, "detected": 1, "reached": 1, "by": {}}
    assert data["by_class"]["data"]["reached"] == 3


def test_what_was_fitted_and_what_is_subtle_is_counted_apart() -> None:
    """A check that was written for a fault proves itself, and nothing about other faults."""
    rows = [
        replace(finding("detected"), fitted=True, subtle=True),
        replace(finding("missed"), subtle=True),
        finding("detected"),
    ]
    data = to_json(rows)
    assert data["unfitted"] == {"total": 2, "detected": 1}
    assert data["subtle"] == {"total": 2, "detected": 1}


def test_there_and_back() -> None:
    """As it travels from one of xdist's workers."""
    one = Finding("a.b", "data", "", "detected", True, "labels", "lora[cpu]", tried=("lora[cpu]",))
    assert Finding.from_json(one.to_json()) == one
