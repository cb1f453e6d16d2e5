from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.process import SIGNALS
from tunematrix.evidence.events import Finished, Raised

if TYPE_CHECKING:
    from tests.unit.conftest import Run

TRACEBACK = "Traceback (most recent call last):\n  File\nValueError: no\n"


@pytest.mark.parametrize(
    ("end", "measured", "cause"),
    [
        ({"code": 1}, "exit code 1", "it ended before the recipe's end"),
        ({"code": 3}, "exit code 3", "it ended before the recipe's end"),
        ({"code": None}, "exit code None", "it ended before the recipe's end"),
        ({"timed_out": True}, "timed out", "ran past its 300 s; stderr.log has every thread's"),
        ({"code": None, "signal": "SIGKILL", "timed_out": True}, "timed out", "ran past its 300 s"),
        ({"code": None, "signal": "SIGUSR2"}, "SIGUSR2", "ended by a signal"),
        ({"code": None, "problem": "the fork server died"}, "lost", "the fork server died"),
        *(({"code": None, "signal": signal}, signal, cause) for signal, cause in SIGNALS.items()),
    ],
)
def test_ways_to_end(run: Run, end: dict[str, object], measured: str, cause: str) -> None:
    """Each is told apart, and each is judged alone, however much evidence there is."""
    verdict = run.ending(**end).verdicts()["exit"]
    assert (verdict.outcome, verdict.measured) == ("failed", measured)
    assert verdict.message.startswith(cause)
    assert run.ending(**end).failed() == {"exit"}


def test_last_words_are_quoted(run: Run) -> None:
    """The last five lines of stderr, and no more."""
    stderr = "".join(f"line {number}\n" for number in range(9))
    message = run.ending(code=9).leaving(stderr=stderr).verdicts()["exit"].message
    assert message.endswith("\n    line 4\n    line 5\n    line 6\n    line 7\n    line 8")
    assert "line 3" not in message


def test_the_innermost_frames_of_a_crash_are_quoted(run: Run) -> None:
    """Where it hung or crashed stands at the top of faulthandler's stack, not at its end."""
    frames = "".join(f'  File "f.py", line {number} in f\n' for number in range(9))
    stderr = f"said before\n\nCurrent thread 0x1 (most recent call first):\n{frames}"
    message = run.ending(timed_out=True).leaving(stderr=stderr).verdicts()["exit"].message
    quoted = [line.strip() for line in message.splitlines()[1:]]
    assert quoted == [f'File "f.py", line {number} in f' for number in range(5)]


def test_what_the_recipe_raised_is_said_once(run: Run) -> None:
    """With its phase; its traceback on stderr is no second failure, and no last words."""
    raised = Raised("load", ("torch.OutOfMemoryError", "RuntimeError"), "no room")
    ended = run.without(Finished).recording(raised).ending(code=1).leaving(stderr=TRACEBACK)
    assert ended.failed() == {"exit"}
    assert ended.verdicts()["exit"].message == "torch.OutOfMemoryError while in load: no room"


def test_an_exception_outside_of_all_phases(run: Run) -> None:
    """It has no phase, and an exit code of 0 doesn't make up for it."""
    raised = run.without(Finished).recording(Raised("", ("ValueError",), "no"))
    for code in (0, 1):
        verdict = raised.ending(code=code).verdicts()["exit"]
        assert (verdict.measured, verdict.message) == (f"exit code {code}", "ValueError: no")


def test_a_silent_end(run: Run) -> None:
    """Where nothing was said, nothing is quoted, and empty lines aren't either."""
    for stderr in ("", "\n\n"):
        message = run.ending(code=9).leaving(stderr=stderr).verdicts()["exit"].message
        assert message == "it ended before the recipe's end"
    spaced = run.ending(code=9).leaving(stderr="a\n\nb\n").verdicts()["exit"].message
    assert spaced.splitlines()[1:] == ["    a", "    b"]


def test_a_traceback_that_nobody_raised(run: Run) -> None:
    """A thread or a data loader that died leaves one, though the recipe reached its end."""
    verdict = run.leaving(stderr=TRACEBACK).verdicts()["stderr"]
    assert (verdict.outcome, verdict.measured, verdict.unit) == ("failed", 1, "patterns")
    assert "Traceback (most recent call last):" in verdict.message


@pytest.mark.parametrize("stderr", ["error_rate=0.1\n", "Traceback\n", "OUT OF MEMORY\n"])
def test_words_that_are_no_error(run: Run, stderr: str) -> None:
    """Only the texts themselves count, not what looks like them."""
    assert not run.leaving(stderr=stderr).failed()


def test_forbidden_patterns_count_beside_an_exception(run: Run) -> None:
    """What the spec forbids is looked for even where the recipe raised."""
    stderr = "x: out of memory\nok\ny: out of memory\n" + TRACEBACK
    raised = Raised("train", ("RuntimeError",), "no")
    ended = run.without(Finished).recording(raised).ending(code=1).leaving(stderr=stderr)
    assert ended.failed() == {"exit", "stderr"}
    message = ended.verdicts()["stderr"].message
    assert message == "stderr has out of memory: x: out of memory, y: out of memory"


def test_the_first_lines_with_any_pattern_are_quoted(run: Run) -> None:
    """Two of them, whichever pattern they have, and how many more there are."""
    patterns = run.asked(stderr={"forbidden_patterns": ["nan", "inf", "absent"]})
    verdict = patterns.leaving(stderr="a nan\nfine\nb inf\nc nan\n").verdicts()["stderr"]
    assert verdict.measured == 2
    assert verdict.message == "stderr has nan, inf: a nan, b inf and 1 more"


def test_a_line_that_is_a_pattern_is_said_once(run: Run) -> None:
    """It would stand there twice, and say no more."""
    verdict = run.leaving(stderr=TRACEBACK).verdicts()["stderr"]
    assert verdict.message == "stderr has Traceback (most recent call last):"


def test_patterns_are_no_regular_expressions(run: Run) -> None:
    """A dot is a dot."""
    dotted = run.asked(stderr={"forbidden_patterns": ["a.c"]})
    assert not dotted.leaving(stderr="abc").failed()
    assert dotted.leaving(stderr="a.c").failed() == {"stderr"}


def test_warnings_decide_nothing(run: Run) -> None:
    """They are recorded as such, and fail no cell."""
    warned = run.leaving(stderr="x is deprecated\n")
    verdict = warned.verdicts()["stderr_warning"]
    assert (verdict.outcome, verdict.measured) == ("warned", 1)
    assert verdict.message == "stderr has deprecated"
    assert not warned.failed()


def test_processes_left_behind(run: Run) -> None:
    """They are counted, and the first few are named."""
    left = tuple(f"python -m torch.run {rank}" for rank in range(5))
    verdict = run.ending(leftovers=left).verdicts()["left_behind"]
    assert (verdict.outcome, verdict.measured, verdict.unit) == ("failed", 5, "processes")
    assert "python -m torch.run 2 and 2 more; likely" in verdict.message


def test_expected_files(run: Run) -> None:
    """Each is asked for by its whole path, and those that are there are counted."""
    wanted = ["model/adapter_config.json", "adapter_config.json", "trainer_logs.json"]
    asked = run.asked(expected_files=wanted)
    verdict = asked.verdicts()["expected_files"]
    assert (verdict.outcome, verdict.measured, str(verdict.bound)) == ("failed", 1, "3")
    assert "adapter_config.json, trainer_logs.json; it made model/" in verdict.message
    empty = asked.leaving(files=()).verdicts()["expected_files"]
    assert "it made none" in empty.message
    many = asked.leaving(files=tuple("abcdefg")).verdicts()["expected_files"]
    assert "it made a, b, c, d, e and 2 more; likely" in many.message
    assert "expected_files" not in run.asked(expected_files=[]).verdicts()
