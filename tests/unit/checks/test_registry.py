"""Where checks come from: the shipped modules, and those of distributions that are installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from tunematrix.checks import process
from tunematrix.checks.bound import AtMost
from tunematrix.checks.registry import (
    ENTRY_POINTS,
    Check,
    assembled,
    check,
    checks_of,
    registry,
    relation_names,
)
from tunematrix.checks.verdict import Claim, Judgement, judge_by
from tunematrix.errors import BadInput
from tunematrix.evidence import Evidence
from tunematrix.evidence.events import Command

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@check(name="quick", group="mine", unit="s", bug="cells that hang")
def quick(evidence: Evidence, claim: Claim) -> Judgement:
    """The cell took 20 seconds at most."""
    return judge_by(AtMost(20.0), evidence.exit.seconds, "it took too long")


def test_a_check_puts_its_name_and_unit_to_what_its_function_says(run: Run) -> None:
    """The function is pure and knows neither."""
    verdict = quick(run.evidence, run.claim)
    assert verdict is not None
    assert (verdict.name, verdict.unit, verdict.measured) == ("quick", "s", 14.0)
    assert quick.claim == "The cell took 20 seconds at most."


def test_a_check_may_be_of_some_runs_alone(run: Run, commanding: Run) -> None:
    """Of those with a kind of event, whatever it would say of the others."""

    @check(name="told", group="mine", bug="something", only_with=Command)
    def told(evidence: Evidence, claim: Claim) -> Judgement:
        """It is told."""
        return judge_by(AtMost(0), 1, "never")

    assert told(run.evidence, run.claim) is None
    verdict = told(commanding.evidence, commanding.claim)
    assert verdict is not None
    assert verdict.outcome == "failed"


def test_a_check_has_to_say_what_it_is_for() -> None:
    """A claim, and a bug that it stands for."""
    with pytest.raises(TypeError, match="check mute needs a docstring"):

        @check(name="mute", group="mine", bug="something")
        def mute(evidence: Evidence, claim: Claim) -> None:
            return None

    with pytest.raises(TypeError, match="and the bug it stands for"):

        @check(name="idle", group="mine", bug="")
        def idle(evidence: Evidence, claim: Claim) -> None:
            """Nothing is wrong."""


def test_every_shipped_check_says_what_it_stands_for() -> None:
    """And each is its module's own; what is imported is left to where it comes from."""
    checks = registry().checks
    assert {len(one.bug) > 10 for one in checks.values()} == {True}
    assert [one.name for one in checks_of(process)] == [
        "exit", "left_behind", "stderr", "stderr_warning", "expected_files",
    ]  # fmt: skip
    assert not any("relative" in one for one in checks)


def test_names_of_relations() -> None:
    """They can be expected to fail as well."""
    assert {"same_logits", "same_logits_mean", "ratio_stored_mb", "tolerances"} <= {
        *relation_names()
    }
    assert set(relation_names()) < set(registry().names)


def _point(value: str) -> EntryPoint:
    return EntryPoint("mine", value, ENTRY_POINTS)


@pytest.mark.parametrize("value", [__name__, f"{__name__}:quick"])
def test_checks_of_a_distribution(value: str) -> None:
    """A module, or one check; its group is one that a recipe can owe."""
    found = assembled([process], [_point(value)])
    assert found.in_group("mine") == (quick,)
    assert found.groups == ("process", "files", "mine")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no_such_module", "can't be imported: ModuleNotFoundError: No module named"),
        (f"{__name__}:absent", "can't be imported: AttributeError"),
        ("json", "is neither a check nor a module that defines some"),
        ("json:dumps", "is neither a check nor a module that defines some"),
        (__name__, "a check is called quick already, in first"),
    ],
)
def test_plug_ins_that_cannot_be_used(value: str, problem: str) -> None:
    """What is wrong, with which entry point, and what to do."""

    def judge(evidence: Evidence, claim: Claim) -> Judgement | None:
        return None

    first = ModuleType("first")
    judge.__module__ = "first"
    first.__dict__["quick"] = Check("quick", "theirs", (), "", "something", "", judge)
    with pytest.raises(BadInput) as caught:
        assembled([first], [_point(value)])
    assert value in str(caught.value)
    assert problem in str(caught.value)
    assert "uninstall its distribution" in str(caught.value)
