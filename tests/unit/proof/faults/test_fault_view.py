from __future__ import annotations

from dataclasses import replace

from tunematrix.proof.faults import view as faults
from tunematrix.proof.faults.score import Finding
from tunematrix.report import terminal

DETECTED = Finding(
    "data.shuffled", "data", "Shuffle.", "detected", True, "labels", "lora[cpu-lora-none]",
    3.0, "0", "rows", ("lora[cpu-lora-none]",),
)  # fmt: skip
MISSED = Finding("data.lost", "data", "Lose.", "missed", True, tried=("lora[cpu]", "full[cpu]"))
BROKEN = Finding("mine.bad", "other", "", "broken", True, reason="the fault mine.bad raised")


def shown(*findings: Finding) -> str:
    """What the terminal shows, on one line."""
    text = terminal.render(faults.summary(findings), 140, colour=False)
    return " ".join(text.split())


def test_what_noticed_a_fault_and_what_it_measured() -> None:
    """With the cell, whose brackets are no markup."""
    text = shown(DETECTED)
    wanted = "data.shuffled Shuffle. labels 3 rows, wanted 0 (lora[cpu-lora-none], silent)"
    assert wanted in text


def test_where_a_missed_one_slipped_past() -> None:
    """So that its reader knows where to look."""
    assert "missed data.lost: nothing noticed it in lora[cpu], full[cpu]" in shown(MISSED)


def test_a_broken_fault_says_why() -> None:
    """Its author has to mend it."""
    assert "broken mine.bad: the fault mine.bad raised" in shown(BROKEN)


def test_the_score_by_class_and_what_is_short() -> None:
    """All of them, and the silent ones apart."""
    text = shown(DETECTED, replace(MISSED, fitted=True), replace(MISSED, subtle=True))
    assert "data 3/3 1/3 2 labels" in text
    assert "all 1/3 1/3" in text
    assert "no check was written for them 1/2 1/2" in text
    assert "subtle: below 2 % 0/1 0/1" in text
    assert "1 of 3 detected of all, 95% promised" in text


def test_a_check_that_noticed_several_is_counted() -> None:
    """One column holds them all."""
    assert "labels ×2" in shown(DETECTED, DETECTED)


def test_one_line_of_progress() -> None:
    """Said as each ends."""
    told = faults.line(DETECTED)
    assert told == "DETECTED by labels in lora[cpu-lora-none] (silent) 0 s"
