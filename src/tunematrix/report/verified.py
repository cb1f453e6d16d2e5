"""Committed records → the table of where the suite has run: environments, hardware, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunematrix.errors import BadInput
from tunematrix.report.rows import counts
from tunematrix.results.record import Outcome, Record

NAMED = ("torch", "transformers", "peft", "trl", "bitsandbytes", "mlx", "mlx-lm")
"""The versions that a reader looks for first; records hold all of them."""
OPENING, CLOSING = "<!-- verified -->", "<!-- /verified -->"
"""What stands around the table in a page."""


@dataclass(frozen=True)
class Run:
    """One environment on one machine.

    Attributes:
        environment: its name; hardware: what computed, in words; system: what it ran under.
        date: YYYY-MM-DD; versions: distribution to version, of those in `NAMED`.
        counts: cells by outcome, worst first; quantizers: passed cells of each.
        relations: relations by outcome.
    """

    environment: str
    hardware: str
    system: str
    date: str
    versions: Mapping[str, str]
    counts: Mapping[Outcome, int]
    quantizers: Mapping[str, int]
    relations: Mapping[Outcome, int]


def verified_runs(records: Iterable[Record]) -> tuple[Run, ...]:
    """Fold records into runs, in the order of first appearance."""
    runs: dict[str, list[Record]] = {}
    for record in records:
        runs.setdefault(record.run_id, []).append(record)
    return tuple(_run(run_id, group) for run_id, group in runs.items())


def as_markdown(environments: Mapping[str, str], runs: Sequence[Run]) -> str:
    """Return the table; an environment (name to description) without a run says so."""
    lines = ["| environment | ran on | with | date | cells |", "|---|---|---|---|---|"]
    others = {run.environment: "" for run in runs if run.environment not in environments}
    for name, description in {**environments, **others}.items():
        mine = [run for run in runs if run.environment == name]
        lines += [_line(run) for run in mine] or [
            f"| `{name}` | **not yet run on its hardware** | {description} | – | – |"
        ]
    return "\n".join(lines)


def placed(table: str, text: str) -> str:
    """Return a page with `table` in its place.

    Raises:
        BadInput: the page has no place for it.
    """
    before, opening, rest = text.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not (opening and closing):
        message = f"the page has no place for the table; write {OPENING} and {CLOSING} there"
        raise BadInput(message)
    return f"{before}{opening}\n{table}\n{closing}{after}"


def _run(run_id: str, group: Sequence[Record]) -> Run:
    ran = [record for record in group if record.versions]
    machine = ran[0].machine if ran else group[0].machine
    passed = [one for one in group if one.outcome == "passed" and not one.arms]
    quantizers = dict.fromkeys(one.axes["quantizer"] for one in passed)
    versions = ran[0].versions if ran else {}
    return Run(
        environment=group[0].environment,
        hardware=str(machine.get("gpu") or machine.get("hardware") or machine["architecture"]),
        system=f"{machine['system']} {machine['architecture']}, Python {machine['python']}",
        date="-".join((run_id[:4], run_id[4:6], run_id[6:8])),
        versions={name: versions[name] for name in NAMED if name in versions},
        counts=counts([one for one in group if not one.arms]),
        relations=counts([one for one in group if one.arms]),
        quantizers={
            name: sum(one.axes["quantizer"] == name for one in passed) for name in quantizers
        },
    )


def _line(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    outcomes = _in_words(run.counts)
    each = ", ".join(f"{name} {count}" for name, count in run.quantizers.items())
    cells = f"{outcomes}<br>passed by quantizer: {each}"
    if run.relations:
        cells += f"<br>relations: {_in_words(run.relations)}"
    where = f"{run.hardware}<br>{run.system}"
    return f"| `{run.environment}` | {where} | {versions} | {run.date} | {cells} |"


def _in_words(outcomes: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{n} {outcome.replace('_', ' ')}" for outcome, n in outcomes.items())
