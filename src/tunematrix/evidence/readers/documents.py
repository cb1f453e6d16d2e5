"""Logs that are one JSON document, whole or cut off: trainer_state.json, trainer_logs.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList, step_of
from tunematrix.evidence.readers.values import number, step_number

_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def trainer_state(log: LogFile) -> LogContent | None:
    """Read transformers' trainer_state.json: each line with a loss; evaluations are left out.

    Raises:
        ValueError: a line has no step, or something that isn't a number.
    """
    head = log.head.lstrip()
    if not head.startswith(b"{") or not (_HISTORY.search(head.decode("utf-8", "replace"))):
        return None
    text = log.text()
    if '"global_step"' not in text or (start := _HISTORY.search(text)) is None:
        return None
    if _first_object_ends_before(text, start.start()):
        return None  # ms-swift's logging.jsonl ends with such a state, on a line of its own
    steps = StepList()
    for line in _records(text, start.end()):
        if "loss" in line:
            steps.add(_strict_step(line, "step"))
    return LogContent(steps.steps, cut_off=not _is_json(text))


def trainer_logs(log: LogFile) -> LogContent | None:
    """Read a list of records, its end written last or never, as in forgather's trainer_logs.json.

    Raises:
        ValueError: a record with a loss has no step, or something that isn't a number.
    """
    head = log.head.decode("utf-8", errors="replace").lstrip()
    if not re.match(r"\[\s*\{", head):
        return None
    text = log.text()
    records = list(_records(text, text.index("[") + 1))
    if not records or not any(name in records[0] for name in ("global_step", "step")):
        return None
    steps = StepList()
    for record in records:
        if "loss" in record:
            steps.add(_strict_step(record, "global_step" if "global_step" in record else "step"))
    return LogContent(steps.steps, cut_off=not _is_json(text))


def _records(text: str, start: int) -> Iterator[dict[str, object]]:
    """Yield the objects of a list whose end may be missing; a torn one ends it."""
    decoder = json.JSONDecoder()
    position = start
    while True:
        position = _match_end(text, position)
        if text[position : position + 1] != "{":
            return
        try:
            record, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            return
        yield record


def _match_end(text: str, position: int) -> int:
    between = _BETWEEN.match(text, position)
    return between.end() if between else position


def _first_object_ends_before(text: str, position: int) -> bool:
    try:
        _, end = json.JSONDecoder().raw_decode(text, text.index("{"))
    except json.JSONDecodeError:
        return False
    return end <= position


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _strict_step(record: dict[str, object], step_name: str) -> LoggedStep:
    step = step_of(record, ordinal=0)
    if step_number(record.get(step_name)) is None:
        raise ValueError(f"{step_name} is {record.get(step_name)!r} in the line {record}")
    for name in ("loss", "grad_norm", "learning_rate"):
        value = record.get(name)
        if number(value) is None and (name == "loss" or value is not None):
            raise ValueError(f"{name} is {value!r} in the line {record}")
    if step is None:
        raise ValueError(f"no loss can be read in the line {record}")
    return step
