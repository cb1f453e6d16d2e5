"""Reports of configs as lines of text: one for each config, and below it what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tunematrix.errors import counted
from tunematrix.inspection.reports import ConfigReport
from tunematrix.paths import shown

WORDS = {"passed": "ok  ", "failed": "FAIL", "unchecked": "?   "}
QUIET_SECONDS = 3.0
"""Nothing is said about progress before, nor more often."""
DOING = {
    "configs": "composed",
    "targets": "imported what is named in",
    "objects": "built the objects of",
}


def lines(reports: Sequence[ConfigReport], *, notes: bool = False) -> Iterator[str]:
    """Yield one line for each config, then a line for each fault, and a sum at the end."""
    for report in reports:
        composed = f"  ({report.composed})" if report.composed else ""
        yield f"{WORDS[report.outcome]} {shown(report.file)}{composed}"
        for problem in report.problems:
            yield f"       {problem}"
        if report.unchecked:
            yield f"       not composed: {report.unchecked}"
        if notes:
            yield from (f"       note: {note}" for note in report.notes)
    yield ""
    yield total(reports)


def total(reports: Sequence[ConfigReport]) -> str:
    """Return how many configs there are, and how many of them are good."""
    counts = Counter(report.outcome for report in reports)
    kinds = Counter(report.kind for report in reports)
    parts = [f"{counts[word]} {word}" for word in ("failed", "unchecked", "passed") if counts[word]]
    faults = len({problem for report in reports for problem in report.problems})
    found = f"; {counted(faults, 'fault')}" if faults else ""
    configs = counted(len(reports), "config")
    others = f", {kinds['other']} of them YAML of other tools" if kinds["other"] else ""
    return f"{configs}{others}: {', '.join(parts)}{found}"


class InspectionProgress:
    """Says now and then how far a long run is, and how long the rest will take.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._what = ""
        self._began = self._said = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take note of how many are done, of how many."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
        if now - max(self._said, self._began) < QUIET_SECONDS:
            return
        self._said = now
        text = f"{DOING.get(what, what)} {done} of {counted(total, 'config')}"
        # The first one waits for imports that the others find done.
        if done >= max(3, total // 20):
            text += f", about {(now - self._began) / done * (total - done):.0f} s left"
        self._say(text)
