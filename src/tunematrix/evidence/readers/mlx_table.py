"""The table that mlx_lm.lora prints while it trains."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList
from tunematrix.evidence.readers.values import number, step_number

_TABLE_HEADER = re.compile(r"\s*iter\s+train_loss\b.*")
_ARROWS = str.maketrans("", "", "▲▼►◄△▽↑↓→=│|")


def mlx_table(log: LogFile) -> LogContent | None:
    """Read the table that mlx_lm.lora prints: iter, train_loss, tok/s, tokens; `val` rows aren't.

    Raises:
        OSError: the log can't be read.
    """
    if not any(_TABLE_HEADER.fullmatch(text) for text, _ in log.lines(b"train_loss")):
        return None
    steps = StepList()
    for step in _table_rows(log):
        steps.add(step)
    return LogContent(steps.steps, cut_off=log.ends_inside_a_line)


def _table_rows(log: LogFile) -> Iterator[LoggedStep]:
    columns: list[str] = []
    for text, ended in log.lines():
        if _TABLE_HEADER.fullmatch(text):
            columns = text.split()
            continue
        cells = text.translate(_ARROWS).split() if columns and ended else []
        if len(cells) != len(columns) or not columns:
            continue
        row: dict[str, object] = dict(zip(columns, cells, strict=True))
        step, loss = step_number(row["iter"]), number(row["train_loss"])
        if step is not None and loss is not None:
            yield LoggedStep(step, loss, None, number(row.get("lr")))
