from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.judge import judge
from tunematrix.evidence.events import BrokenMeter, Finished, LogitError, Raised, Reload
from tunematrix.results.outcome import Expected, settle

if TYPE_CHECKING:
    from tests.unit.conftest import Run

LINK = "https://example.org/1"
LOGITS = Expected(None, "logit_error", "loses too much", LINK)
RELOAD = Expected(None, "reload", "loads as noise", LINK)
MEMORY = Expected("RuntimeError", None, "no room", LINK)


def _settle(run: Run, *expected: Expected) -> tuple[str, str]:
    return settle(judge(run.evidence, run.claim), run.evidence, expected)[:2]


@pytest.fixture
def lossy(run: Run) -> Run:
    """A run in which logit_error fails, and nothing else."""
    return run.recording(LogitError(0.9))


@pytest.fixture
def raising(run: Run) -> Run:
    """A run whose recipe ran out of memory."""
    error = ("torch.OutOfMemoryError", "RuntimeError", "Exception", "BaseException")
    return run.without(Finished).recording(Raised("load", error, "no room")).ending(code=1)


def test_passed(run: Run) -> None:
    """Nothing failed and nothing was expected to; a warning decides nothing."""
    assert _settle(run) == ("passed", "")
    assert _settle(run.leaving(stderr="deprecated")) == ("passed", "")


def test_failed(lossy: Run) -> None:
    """The reason is the first failure, and how many more there are."""
    outcome, reason = _settle(lossy)
    assert outcome == "failed"
    assert reason == "logit_error: logits are off by 0.9; the quantizer loses more than it should"
    both = lossy.edited(Reload, max_difference=7.4)
    assert _settle(both)[1] == f"{reason} (and 1 more)"


def test_known_failure_of_a_check(lossy: Run) -> None:
    """The check that was named failed, so the reason is the declared one."""
    assert _settle(lossy, LOGITS) == ("known_failure", "loses too much")


def test_known_failure_that_passes(run: Run) -> None:
    """What has begun to work must not stay excused."""
    assert _settle(run, LOGITS) == (
        "failed",
        "expected to fail (check logit_error) and passed: remove the expectation",
    )
    assert _settle(run, MEMORY)[1].startswith("expected to fail (RuntimeError) and passed")


def test_known_failure_of_another_check(lossy: Run) -> None:
    """Some failure isn't the failure."""
    outcome, reason = _settle(lossy, RELOAD)
    assert outcome == "failed"
    assert reason.startswith("expected check reload and nothing else, got logit_error: logits are")


def test_known_failure_excuses_no_other(lossy: Run) -> None:
    """A second check that fails beside the expected one is news."""
    both = lossy.edited(Reload, max_difference=7.4)
    outcome, reason = _settle(both, LOGITS)
    assert outcome == "failed"
    assert "nothing else" in reason


def test_several_known_failures_of_one_cell(lossy: Run) -> None:
    """All of them have to happen: one that doesn't is no longer a failure."""
    both = lossy.edited(Reload, max_difference=7.4)
    assert _settle(both, LOGITS, RELOAD) == ("known_failure", "loses too much; loads as noise")
    outcome, reason = _settle(lossy, LOGITS, RELOAD)
    assert outcome == "failed"
    assert reason.startswith("expected check logit_error and check reload and nothing else")


@pytest.mark.parametrize("name", ["OutOfMemoryError", "torch.OutOfMemoryError", "RuntimeError"])
def test_known_exception_by_any_of_its_names(raising: Run, name: str) -> None:
    """Its class, with or without the module, or a base class of it."""
    assert _settle(raising, Expected(name, None, "no room", LINK)) == ("known_failure", "no room")


@pytest.mark.parametrize("name", ["ValueError", "MemoryError", "torch", "Error", ""])
def test_another_exception(raising: Run, name: str) -> None:
    """One that isn't raised, and no part of a name."""
    outcome, reason = _settle(raising, Expected(name, None, "no room", LINK))
    assert outcome == "failed"
    assert "got exit: torch.OutOfMemoryError while in load: no room" in reason


def test_any_failure_will_do_where_none_is_named(lossy: Run, raising: Run, run: Run) -> None:
    """A declared no need not say how it fails, but it has to fail."""
    unnamed = Expected(None, None, "nobody tried", LINK)
    assert _settle(lossy, unnamed) == ("known_failure", "nobody tried")
    assert _settle(raising, unnamed) == ("known_failure", "nobody tried")
    assert _settle(run, unnamed)[1].startswith("expected to fail (any failure) and passed")


def test_a_check_where_an_exception_was_expected(lossy: Run, raising: Run) -> None:
    """An expectation names what it is about, and the other doesn't do."""
    assert _settle(lossy, MEMORY)[0] == "failed"
    assert _settle(raising, LOGITS)[0] == "failed"


@pytest.mark.parametrize(
    "end",
    [{"code": None, "signal": "SIGKILL"}, {"code": None, "timed_out": True}, {"code": 137}],
)
def test_an_end_that_is_no_exception(raising: Run, end: dict[str, object]) -> None:
    """Killed or timed out after it raised is not how it was expected to end."""
    assert _settle(raising.ending(**end), MEMORY)[0] == "failed"


def test_an_exit_without_an_exception(run: Run) -> None:
    """Exit code 1 alone doesn't say what was raised."""
    assert _settle(run.without(Finished).ending(code=1), MEMORY)[0] == "failed"


def test_an_expected_exception_excuses_no_leftovers(raising: Run) -> None:
    """A process left running beside it is another failure."""
    assert _settle(raising.ending(leftovers=("serve",)), MEMORY)[0] == "failed"


OLD = "https://example.org/old"
MAY_LOGITS = Expected(None, "logit_error", "as old releases do", OLD, must=False)
MAY_RELOAD = Expected(None, "reload", "as old releases do", OLD, must=False)
MAY_RAISE = Expected("RuntimeError", None, "as old releases do", OLD, must=False)


def test_what_may_fail_need_not(run: Run, lossy: Run) -> None:
    """A fault of old releases shows in some cells, and is their known failure there."""
    assert _settle(run, MAY_LOGITS, MAY_RAISE) == ("passed", "")
    assert _settle(lossy, MAY_RELOAD, MAY_LOGITS) == ("known_failure", "as old releases do")
    assert _settle(lossy, MAY_RELOAD, MAY_RAISE)[0] == "failed"


def test_what_may_fail_excuses_no_other(lossy: Run, raising: Run) -> None:
    """A second failure beside it is news, and so is another exception."""
    both = lossy.edited(Reload, max_difference=7.4)
    assert _settle(both, MAY_LOGITS)[0] == "failed"
    assert _settle(both, MAY_LOGITS, MAY_RELOAD)[0] == "known_failure"
    assert _settle(raising, MAY_LOGITS)[0] == "failed"
    assert _settle(raising, Expected("KeyError", None, "r", OLD, must=False))[0] == "failed"


def test_what_must_fail_still_must(run: Run, lossy: Run, raising: Run) -> None:
    """Unless a release's fault ended the cell before that could show."""
    assert _settle(run, LOGITS, MAY_RELOAD)[0] == "failed"
    assert _settle(lossy, RELOAD, MAY_LOGITS)[0] == "failed"
    assert _settle(lossy, LOGITS, MAY_RELOAD) == ("known_failure", "loses too much")
    assert _settle(raising, LOGITS, MAY_RAISE) == ("known_failure", "as old releases do")


def test_the_link_is_of_what_happened(lossy: Run) -> None:
    """And not of the first thing that might have."""
    verdicts = judge(lossy.evidence, lossy.claim)
    assert settle(verdicts, lossy.evidence, [MAY_RAISE, LOGITS]).link == LINK
    assert settle(verdicts, lossy.evidence, [MAY_RELOAD, MAY_LOGITS]).link == OLD
    assert settle(verdicts, lossy.evidence, [RELOAD]).link == ""


@pytest.mark.parametrize("expected", [(), (LOGITS,), (MEMORY,)])
def test_an_error_of_the_harness(raising: Run, expected: tuple[Expected, ...]) -> None:
    """What went wrong around the cell is neither its failure nor its known failure."""
    lost = raising.ending(code=None, problem="the fork server was killed")
    assert _settle(lost, *expected) == ("error", "the fork server was killed")


CRASH = Expected(None, "exit", "dies in native code", LINK)


def test_a_known_crash_is_no_hang_and_no_early_end(run: Run) -> None:
    """Of `check: exit`, a signal or a code is meant: whatever else may have got stuck is new."""
    ended = run.without(Finished)
    assert _settle(ended.ending(code=None, signal="SIGSEGV"), CRASH)[0] == "known_failure"
    assert _settle(ended.ending(code=3), CRASH)[0] == "known_failure"
    assert _settle(ended.ending(code=0), CRASH)[0] == "failed"
    assert _settle(ended.ending(code=None, timed_out=True), CRASH)[0] == "failed"


def test_a_meter_that_raised(raising: Run) -> None:
    """It says nothing of the stack, so it is no failure of it, known or not."""
    run = raising.recording(BrokenMeter("torch scale", "the meter torch scale raised; report it"))
    for expected in ((), (MEMORY,)):
        told = ("error", "the meter torch scale raised; report it")
        assert _settle(run, *expected) == told
