"""Logs with one JSON object a line: LLaMA-Factory's trainer_log.jsonl, ms-swift's logging.jsonl."""

from __future__ import annotations

import json

from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList, epoch_of, step_of

MOST_NAMES = 200
"""A vocabulary is a JSON object too, with words such as step and loss in it."""


def json_lines(log: LogFile) -> LogContent | None:
    """Read the lines that are JSON objects with a training loss; other lines may lie between."""
    steps = StepList()
    torn = False
    for text, ended in log.lines(b'loss"'):
        record = _record(text)
        if record is None:
            torn = torn or (not ended and text.lstrip().startswith("{"))
            continue
        if step := step_of(record, ordinal=len(steps) + 1):
            steps.add(step, epoch_of(record))
    return LogContent(steps.steps, cut_off=torn) if steps else None


def _record(text: str) -> dict[str, object] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return record if len(record) <= MOST_NAMES else None
