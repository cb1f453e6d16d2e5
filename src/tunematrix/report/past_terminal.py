"""A history on a terminal: its runs, how a cell has fared, and two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tunematrix.errors import counted
from tunematrix.report.past import (
    Flake,
    Moved,
    Ratio,
    RunComparison,
    Stretch,
    Thread,
    differing,
    flakes,
    last_passed,
)
from tunematrix.report.rows import NAMED, SEVERITY, SYMBOLS, in_words, moment_of
from tunematrix.report.terminal import COLOURS, in_figures
from tunematrix.report.text import indented, one_line, printable
from tunematrix.results.record import Outcome, hardware_of
from tunematrix.results.run_line import RunLine

MOST_DIFFERENCES = 12
"""That are shown in one place; the JSON has all of them."""
_INDENT = 2
_METRICS = {"seconds": "time", "process_peak_mb": "memory"}


def overview(lines: Sequence[RunLine]) -> Group:
    """Return a few lines for each run: when, where, how it ended, and versions that are new."""
    shown: list[RenderableType] = []
    latest: dict[tuple[str, str], Mapping[str, str]] = {}
    for line in lines:
        hardware = hardware_of(line.machine)
        head = Text(f"{_when(line.run_id)}  ", "dim")
        head.append(one_line(line.environment), "bold not dim")
        head.append(f" on {one_line(hardware)}", "not dim")
        below = [Text(f"run {one_line(line.run_id)}", "dim"), *_ended(line)]
        below += _with(line.versions, latest.get((line.environment, hardware)))
        shown += [head, *(Padding(one, (0, 0, 0, _INDENT)) for one in below)]
        if line.versions:
            latest[line.environment, hardware] = line.versions
    return Group(*shown)


def story(parted: Mapping[Thread, Sequence[Stretch]]) -> Group:
    """Return how each cell has fared in each environment and on each kind of machine."""
    shown: list[RenderableType] = []
    for thread, stretches in parted.items():
        where = one_line(f"{thread.environment} on {thread.hardware}")
        head = Text.assemble(_symbol(stretches[-1].outcome), " ")
        head.append(one_line(thread.cell_id), "bold default")
        shown.append(head.append(f"   {where}", "not bold default"))
        for stretch in stretches:
            since = (Padding(one, (0, 0, 0, _INDENT)) for one in _since(stretch.since))
            shown += [*since, _stretch(stretch)]
        shown += [*_flaky(flakes(stretches)), *_passed_last(stretches)]
    return Group(*shown)


def side_by_side(before: RunLine, after: RunLine, found: RunComparison) -> Group:
    """Return what differs between two runs."""
    shown: list[RenderableType] = []
    for word, line in (("before", before), ("after", after)):
        where = f"{line.environment} on {hardware_of(line.machine)}, run {line.run_id}"
        shown.append(Text(f"{word:7}{one_line(where)}"))
    if found.differences:
        shown.append(Text("what differs", "bold"))
        shown += _each(found.differences)
    else:
        shown.append(Text("machine and versions are the same, as far as they were recorded"))
    for flip in found.flips:
        text = Text.assemble(_symbol(flip.before), " → ", _symbol(flip.after))
        text.append(f"  {one_line(flip.cell_id)}")
        if flip.reason:
            text.append(f"\n  {indented(flip.reason, '  ')}", "dim")
        shown.append(text)
    total = found.same + sum(
        one.before is not None and one.after is not None for one in found.flips
    )
    shown.append(Text(f"{found.same} of {total} cells and relations ended alike"))
    shown += [Text(_in_words(ratio), "dim") for ratio in found.ratios]
    return Group(*shown)


def _ended(line: RunLine) -> Iterator[Text]:
    for word, outcomes in (("cells", line.cells), ("relations", line.relations)):
        if outcomes:
            yield Text.assemble(f"{word}: ", in_figures(_worst_first(outcomes)))


def _worst_first(outcomes: Mapping[Outcome, int]) -> dict[Outcome, int]:
    return {outcome: outcomes[outcome] for outcome in SEVERITY if outcomes.get(outcome)}


def _with(versions: Mapping[str, str], before: Mapping[str, str] | None) -> Iterator[Text]:
    """Yield the versions of the first run of its kind, and what has changed in later ones."""
    if before is None:
        if named := _named(versions):
            yield Text(f"with {named}", "dim")
    elif versions:
        yield from _since(differing(before, versions))


def _when(run_id: str) -> str:
    return one_line(moment_of(run_id) or run_id)


def _named(versions: Mapping[str, str]) -> str:
    return one_line(", ".join(f"{name} {versions[name]}" for name in NAMED if name in versions))


def _stretch(stretch: Stretch) -> RenderableType:
    first, last, count = stretch.records[0], stretch.last, len(stretch.records)
    began, ended = _when(first.run_id), _when(last.run_id)
    times = began if count == 1 else f"{count} times, {began} to {ended}"
    text = Text(in_words(stretch.outcome), COLOURS[stretch.outcome])
    text.append(f"   {times}", "not bold not dim default")
    if last.reason:
        text.append(f"\n{printable(last.reason)}", "not bold not dim default")
    return Padding(text, (0, 0, 0, _INDENT))


def _flaky(found: Sequence[Flake]) -> Iterator[RenderableType]:
    """Yield that a cell is flaky, where it flipped with nothing changed."""
    if found:
        times = "once" if len(found) == 1 else f"{len(found)} times"
        last = f"last between {_when(found[-1].before.run_id)} and {_when(found[-1].after.run_id)}"
        text = f"flaky: its outcome flipped {times} though nothing recorded had changed, {last}"
        yield Padding(Text(text, "bold yellow"), (0, 0, 0, _INDENT))


def _passed_last(stretches: Sequence[Stretch]) -> Iterator[RenderableType]:
    """Yield when a cell passed last, where its newest run didn't."""
    newest = last_passed(stretches)
    if stretches[-1].outcome in ("passed", "unsupported"):
        return
    if newest is None:
        text = "it has never passed here"
    else:
        named = _named(newest.versions)
        text = f"it passed last on {_when(newest.run_id)}{f' with {named}' if named else ''}"
    yield Padding(Text(text, "dim"), (0, 0, 0, _INDENT))


def _since(differences: Iterable[Moved]) -> Iterator[Text]:
    texts = [_arrow(one) for one in differences]
    if texts:
        left = len(texts) - MOST_DIFFERENCES
        more = f", and {left} more" if left > 0 else ""
        yield Text(f"since then: {', '.join(texts[:MOST_DIFFERENCES])}{more}", "dim")


def _each(differences: Sequence[Moved]) -> Iterator[Text]:
    for one in differences[:MOST_DIFFERENCES]:
        yield Text(f"  {_arrow(one)}")
    if (left := len(differences) - MOST_DIFFERENCES) > 0:
        yield Text(f"  and {left} more; --json shows all", "dim")


def _arrow(one: Moved) -> str:
    return one_line(f"{one.name} {one.before} → {one.after}")


def _symbol(outcome: Outcome | None) -> Text:
    return Text("not run", "dim") if outcome is None else Text(SYMBOLS[outcome], COLOURS[outcome])


def _in_words(ratio: Ratio) -> str:
    what = f"{_METRICS[ratio.metric]} after / before: {ratio.median:.2f}, the median of "
    what += f"{counted(ratio.cells, 'cell')} that passed in both; farthest off is {ratio.cell_id}"
    return one_line(f"{what}, {ratio.extreme:.2f}")
