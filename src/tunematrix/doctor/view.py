"""The diagnosis, for a terminal: three tables, and below each why something is not as it should."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunematrix.doctor.findings import (
    BackendFinding,
    Diagnosis,
    EnvironmentFinding,
    Outcome,
    QuantizerFinding,
    State,
    Virtualenv,
)
from tunematrix.evidence.secrets import masked, secrets_in

GIGABYTE = 1e9
YES, NO, LACKING, NEVER = "✓", "✗", "?", "·"
COLOURS = {YES: "green", NO: "bold red", LACKING: "magenta", NEVER: "dim"}
STATES: dict[State, str] = {
    "works": YES,
    "broken": NO,
    "not installed": LACKING,
    "not here": NEVER,
}
OUTCOMES: dict[Outcome, str] = {
    "agrees": YES,
    "differs": NO,
    "unavailable": LACKING,
    "unsupported": NEVER,
}
VIRTUALENVS: dict[Virtualenv, str] = {
    "built": "built",
    "unfinished": "half built; this repairs it",
    "absent": "can be built",
}


@dataclass(frozen=True)
class FindingRow:
    """One environment, one backend, or some pairs of backend and quantizer.

    Attributes:
        name: of it or them; symbol: one of COLOURS.
        lines: what is known.
    """

    name: str
    symbol: str
    lines: tuple[str, ...]


def environment_row(found: EnvironmentFinding) -> FindingRow:
    """Say whether this machine can have an environment, and how far it is built."""
    if found.obstacle is not None:
        return FindingRow(found.name, NEVER, found.obstacle.lines)
    if found.possible is None:
        unknown = f"no pyproject.toml here describes it; try: {found.command}"
        return FindingRow(found.name, LACKING, (found.description, unknown))
    state = "active" if found.active else VIRTUALENVS[found.virtualenv]
    return FindingRow(found.name, YES, (found.description, f"{state}: {found.command}"))


def backend_row(found: BackendFinding) -> FindingRow:
    """Say what computes, in which dtypes and by which versions, or why nothing does."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    if found.state == "works":
        refused = (f"not {dtype}: {problem}" for dtype, problem in found.refused.items())
        lines = (_device(found), ", ".join(found.dtypes), *refused, versions)
    elif found.state == "not here" and found.seconds is None:
        lines = ("not on this machine: its environment, above, says why",)
    else:
        evidence = f"evidence: {found.evidence}" if found.evidence else ""
        lines = (found.reason, f"to do: {found.fix}" if found.fix else "", evidence, versions)
    return FindingRow(found.name, STATES[found.state], tuple(filter(None, lines)))


def notes(pairs: Iterable[QuantizerFinding]) -> tuple[FindingRow, ...]:
    """Group the pairs that don't agree by their reason, in the order of first appearance."""
    groups: dict[tuple[Outcome, str, str, str, str], list[QuantizerFinding]] = {}
    for pair in pairs:
        if pair.outcome != "agrees":
            key = (pair.outcome, pair.reason, pair.link, pair.fix, pair.evidence)
            groups.setdefault(key, []).append(pair)
    rows = []
    for (outcome, reason, link, fix, evidence), group in groups.items():
        lines = [f"{outcome}: {reason}", f"<{link}>" if link else ""]
        lines += [f"to do: {fix}" if fix else "", f"evidence: {evidence}" if evidence else ""]
        rows.append(FindingRow(_named(group), OUTCOMES[outcome], tuple(filter(None, lines))))
    return tuple(rows)


def tables(found: Diagnosis) -> Group:
    """Return all that was found, and last what keeps the named environment from working."""
    elsewhere = {one.name for one in found.backends if one.state == "not here"}
    pairs = [pair for pair in found.quantizers if pair.backend not in elsewhere]
    here = f"Python {found.python}, {found.virtualenv}"
    remarks = [*notes(pairs), *_verdict(found)]
    return Group(
        _rows(f"environments ({found.machine})", map(environment_row, found.environments)),
        _rows(f"backends ({here})", map(backend_row, found.backends)),
        _pairs(pairs),
        _legend(),
        _notes(remarks),
    )


def _device(found: BackendFinding) -> str:
    facts = found.device
    memory = facts.get("memory_bytes")
    parts = [
        str(facts.get("name", "")),
        f"{memory / GIGABYTE:.1f} GB" if memory else "",
        str(facts.get("runtime", "")),
        f"driver {facts['driver']}" if facts.get("driver") else "",
    ]
    return ", ".join(part for part in parts if part)


def _named(pairs: Sequence[QuantizerFinding]) -> str:
    """Name pairs, the backends of each quantizer together."""
    backends: dict[str, list[str]] = {}
    for pair in pairs:
        backends.setdefault(pair.quantizer, []).append(pair.backend)
    together: dict[str, list[str]] = {}
    for quantizer, names in backends.items():
        together.setdefault(", ".join(names), []).append(quantizer)
    return "; ".join(f"{', '.join(names)} on {where}" for where, names in together.items())


def _rows(title: str, rows: Iterable[FindingRow]) -> Table:
    table = Table(
        box=None, title=f"\n{title}", title_justify="left", show_header=False, padding=(0, 1)
    )
    for width in (None, None, 1):
        table.add_column(no_wrap=width is None, ratio=width, overflow="fold")
    for row in rows:
        table.add_row(row.name, Text(row.symbol, COLOURS[row.symbol]), Text(_shown(row.lines)))
    return table


def _shown(lines: Sequence[str]) -> str:
    """Return lines without secrets; once they are folded into a column, none would be found."""
    return masked("\n".join(lines), secrets_in(os.environ))


def _notes(rows: Iterable[FindingRow]) -> Table:
    table = Table.grid(padding=(0, 1))
    for row in rows:
        lines = Text(_shown([row.name, *row.lines]), COLOURS[row.symbol])
        table.add_row(Text(row.symbol, COLOURS[row.symbol]), lines)
    return table


def _pairs(pairs: Sequence[QuantizerFinding]) -> Table:
    backends = dict.fromkeys(pair.backend for pair in pairs)
    by_place = {(pair.quantizer, pair.backend): pair for pair in pairs}
    table = Table(box=SIMPLE, title="\nquantizer × backend", title_justify="left")
    table.add_column("", no_wrap=True)
    for backend in backends:
        table.add_column(backend)
    for quantizer in dict.fromkeys(pair.quantizer for pair in pairs):
        found = [by_place.get((quantizer, backend)) for backend in backends]
        table.add_row(quantizer, *(_show(pair) for pair in found))
    return table


def _show(pair: QuantizerFinding | None) -> Text:
    if pair is None:
        return Text("")
    symbol = OUTCOMES[pair.outcome]
    text = Text(symbol, COLOURS[symbol])
    # Without a space inside, or a narrow terminal parts a figure from its unit.
    figures = [
        f"{pair.bits_per_weight:.2f}bit" if pair.bits_per_weight is not None else "",
        f"{pair.seconds:.1f}s" if pair.seconds is not None else "",
    ]
    return text.append("".join(f" {figure}" for figure in figures if figure), "dim")


def _legend() -> Text:
    symbols = "   ".join(f"{symbol} {outcome}" for outcome, symbol in OUTCOMES.items())
    means = "bits stored for a weight, seconds of a process that loads and trains one step"
    return Text(f"{symbols}\n{means}\n", "dim")


def _verdict(found: Diagnosis) -> Iterator[FindingRow]:
    """Yield what is to be said of the environment that was named, if one was."""
    if found.problems:
        yield FindingRow(f"{found.environment}: doesn't fully work here", NO, found.problems)
    elif found.environment and found.partial:
        yield FindingRow(f"{found.environment}: only what --axis selected was examined", YES, ())
    elif found.environment:
        yield FindingRow(f"{found.environment}: all that it requires works here", YES, ())
