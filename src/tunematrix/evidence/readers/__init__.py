"""Logs that trainers write themselves → logged steps, by readers that know them by content."""

from tunematrix.evidence.readers.content import LogContent, LogFile, LogLine, LogReader
from tunematrix.evidence.readers.registry import GROUP, SHIPPED, log_readers
from tunematrix.evidence.readers.search import (
    LogNotFound,
    LookedAt,
    TrainerLog,
    find_log,
    read_log,
)

__all__ = [
    "GROUP",
    "SHIPPED",
    "LogContent",
    "LogFile",
    "LogLine",
    "LogNotFound",
    "LogReader",
    "LookedAt",
    "TrainerLog",
    "find_log",
    "log_readers",
    "read_log",
]
