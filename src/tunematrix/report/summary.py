"""Records → a page of Markdown for a pull request's comment, or the page of a run of CI.

What fails stands first. Nothing in a record is taken for Markdown, HTML, a link or a mention:
whatever is foreign stands in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tunematrix.errors import counted
from tunematrix.report.again import run_again
from tunematrix.report.rows import (
    BAD,
    SEVERITY,
    SYMBOLS,
    Place,
    Run,
    Square,
    counts,
    in_words,
    matrix,
    plain_first,
    reasons,
    runs,
)
from tunematrix.report.terminal import failure
from tunematrix.report.text import one_line
from tunematrix.report.warned import how_many, warnings_in
from tunematrix.results.record import Outcome, Record

LONGEST = 65_536
"""Characters that GitHub takes as a comment. Written out, they are less than the 1 MiB that it
takes as the summary of a step."""
LEAST = 8_000
"""Characters that a section is worth: of more runs than there is room for, the rest is named."""
EXPLAINED: tuple[Outcome, ...] = ("unavailable", "known_failure", "unsupported")
LEGEND = ", ".join(f"{SYMBOLS[outcome]} {in_words(outcome)}" for outcome in SEVERITY)
INTERRUPTED = "◐"
"""Stands for a run that didn't come to its end."""
LONGEST_NAME = 200
"""Characters of what stands in a line; a command in a block of code is never cut."""
LONGEST_REPORT = 3_000
"""Characters of what is said of one failure."""
_TICKS = re.compile(r"`+")
_NO_WORD = re.compile(r"[^A-Za-z0-9 -]")


def as_summary(records: Sequence[Record], longest: int = LONGEST) -> str:
    """Return a section for each run: its counts, what failed, its matrix, and the rest folded.

    Args:
        records: of any runs. longest: most characters of the page.
    """
    every = runs(records)
    shown = every[: max(1, longest // LEAST)]
    note = f"\n{counted(len(every) - len(shown), 'more run', verb=True)} left out.\n"
    room = longest - (len(note) if len(shown) < len(every) else 0)
    text = "\n".join(_section(run, room // len(shown) - 1) for run in shown)
    return text if len(shown) == len(every) else text + note


def code(text: str) -> str:
    """Return a text as code in a line of Markdown, whatever is in it."""
    shown = _short(text) or "–"
    ticks = "`" * (1 + max(map(len, _TICKS.findall(shown)), default=0))
    # A space at either end belongs to the ticks, where both have one.
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def fenced(text: str) -> str:
    """Return lines of text as a block of code, whatever is in them."""
    ticks = "`" * max(3, 1 + max(map(len, _TICKS.findall(text)), default=0))
    return f"{ticks}text\n{text}\n{ticks}"


def in_table(text: str) -> str:
    """Return a text as code in a cell of a table, where a bar would end it even in code."""
    shown = _short(text)
    escaped = _NO_WORD.sub(lambda match: f"&#{ord(match[0])};", shown)
    return f"<code>{escaped}</code>" if escaped != shown else code(text)


def folded(title: str, text: str) -> str:
    """Return a text of Markdown that opens under its title."""
    return f"\n<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"


def _short(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}…"


def _section(run: Run, room: int) -> str:
    """Return the section of a run, in which no more failures stand than there is room for."""
    failed = [record for outcome in BAD for record in run.records if record.outcome == outcome]
    head = _head(run)
    tail = _fitting(list(_tail(run)), room - len(head) - LEAST // 4)
    left = room - len(head) - sum(map(len, tail))
    return "".join([head, *_failures(failed, left, run.environment), *tail])


def _head(run: Run) -> str:
    host = ", ".join(filter(None, (run.hardware, run.system)))
    when = " ".join(filter(None, (run.date, run.time)))
    lines = [f"## {_sign(run)} {code(run.environment)}", ""]
    lines += [f"**{run.interrupted}**<br>"] if run.interrupted else []
    lines += [f"cells: {_in_words(run.cells)}"]
    lines += [f"<br>relations: {_in_words(run.relations)}"] if run.relations else []
    lines += [f"<br>run {code(run.id)}, {when}" if when else f"<br>run {code(run.id)}"]
    return "\n".join([*lines, f"<br>{code(host)}", ""])


def _sign(run: Run) -> str:
    """Return what a reader sees first: that something failed, was missing, or all is as it should.

    A run that was interrupted is none of these, unless something failed until then.

    What was missing fails a run only where the environment requires it, which records don't say.
    """
    found = counts(run.records)
    if "error" in found or "failed" in found:
        return SYMBOLS["failed"]
    if run.interrupted:
        return INTERRUPTED
    return SYMBOLS["unavailable" if "unavailable" in found else "passed"]


def _failures(failed: Sequence[Record], room: int, environment: str) -> list[str]:
    """Return the first failures that there is room for, and how many more there are."""
    texts: list[str] = []
    command = code(f"tunematrix report -e {environment}")
    for number, record in enumerate(failed):
        text = (
            f"\n**{SYMBOLS[record.outcome]}** {code(record.cell_id)}\n\n{fenced(_report(record))}\n"
        )
        more = f"\n{len(failed) - number} more failed: {command}\n"
        last = number == len(failed) - 1
        if len(text) + (0 if last else len(more)) > room:
            return [*texts, more] if len(more) <= room else texts
        texts.append(text)
        room -= len(text)
    return texts


def _report(record: Record) -> str:
    """Return what a terminal shows of a failure; of a very long one the command stays, too."""
    again = run_again(record)
    report = failure(record, again)
    if len(report) <= LONGEST_REPORT:
        return report
    return f"{report[:LONGEST_REPORT]} …\nrun again: {again}"


def _tail(run: Run) -> Iterator[str]:
    """Yield what follows the failures, each part of which can be left out."""
    squares = matrix(run.records)
    if squares:
        yield f"\n{_table(squares)}\n\n{LEGEND}\n"
    versions = "\n".join(f"{one_line(name)}=={one_line(v)}" for name, v in run.versions.items())
    if versions:
        yield folded("versions", fenced(versions))
    if warnings := warnings_in(run.records):
        said = [f"{one_line(text)}\n  {one_line(', '.join(ids))}" for text, ids in warnings.items()]
        yield folded(how_many(run.records), fenced("\n".join(said)))
    for outcome in EXPLAINED:
        whys = reasons(run.records, [outcome])
        if whys:
            lines = [
                "\n  ".join(filter(None, (one_line(why), one_line(link), one_line(", ".join(ids)))))
                for (_, why, link), ids in whys.items()
            ]
            count = counts(run.records)[outcome]
            words = f"{SYMBOLS[outcome]} {count} {in_words(outcome, count)}"
            yield folded(words, fenced("\n".join(lines)))


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    """Return the parts that there is room for, and say so where some are left out."""
    note = "\nThe rest is left out here, being too long.\n"
    kept: list[str] = []
    left = room - len(note)
    for part in parts:
        if len(part) <= left:
            kept.append(part)
            left -= len(part)
    return kept if len(kept) == len(parts) else [*kept, note]


def _table(squares: Mapping[Place, Square]) -> str:
    """Return the matrix: a row for each method of each recipe, a column for each quantizer."""
    columns = sorted({place.quantizer for place in squares}, key=plain_first)
    rows: dict[tuple[str, str, str], dict[str, Square]] = {}
    for place, square in squares.items():
        rows.setdefault(place[:3], {})[place.quantizer] = square
    several = len({backend for backend, _, _ in rows}) > 1
    heads = [*(["backend"] if several else []), "recipe", "method", *map(in_table, columns)]
    lines = [heads, ["---"] * len(heads)]
    for names, row in rows.items():
        options = [in_table(name) for name in (names if several else names[1:])]
        lines.append([*options, *(_square(row.get(column)) for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _square(square: Square | None) -> str:
    found = {} if square is None else square.counts
    return " ".join(f"{SYMBOLS[outcome]}{count}" for outcome, count in found.items())


def _in_words(records: Sequence[Record]) -> str:
    found = counts(records).items()
    parts = [f"{SYMBOLS[one]} {count} {in_words(one, count)}" for one, count in found]
    return ", ".join(filter(None, [*parts, how_many(records)]))
