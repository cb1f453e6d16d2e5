"""The readers there are: those shipped, and those of the entry points `tunematrix.log_readers`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint

from tunematrix.entry_points import origin, points_in
from tunematrix.errors import BadInput
from tunematrix.evidence.readers.content import LogReader
from tunematrix.evidence.readers.csv_table import csv_table
from tunematrix.evidence.readers.documents import trainer_logs, trainer_state
from tunematrix.evidence.readers.event_files import event_file
from tunematrix.evidence.readers.json_lines import json_lines
from tunematrix.evidence.readers.mlx_table import mlx_table
from tunematrix.evidence.readers.printed import dict_lines, step_lines

GROUP = "tunematrix.log_readers"

SHIPPED: Mapping[str, LogReader] = {
    "trainer_state": trainer_state,
    "trainer_logs": trainer_logs,
    "json_lines": json_lines,
    "csv": csv_table,
    "tensorboard": event_file,
    "mlx_table": mlx_table,
    "dict_lines": dict_lines,
    "step_lines": step_lines,
}


def log_readers() -> dict[str, LogReader]:
    """Return all readers by name, shipped ones first.

    Raises:
        BadInput: a plug-in can't be imported, is no function, or claims a name that is taken.
    """
    readers = dict(SHIPPED)
    for point in points_in(GROUP):
        if point.name in readers:
            advice = "rename the entry point, or uninstall the distribution"
            raise BadInput(f"{origin(point)}: there is a log reader {point.name} already; {advice}")
        readers[point.name] = _load(point)
    return readers


def _load(point: EntryPoint) -> LogReader:
    advice = "mend it, or uninstall the distribution"
    try:
        reader: object = point.load()
    except Exception as error:  # whatever it is, the plug-in's author has to know
        text = f"{origin(point)}: can't be imported: {type(error).__name__}: {error}"
        raise BadInput(f"{text}; {advice}") from error
    if not callable(reader):
        text = f"{origin(point)}: is {type(reader).__name__}, not a function of a log file"
        raise BadInput(f"{text}; {advice}")
    return reader
