"""What a cell left behind: run directory, events and logs come from disk and go to `checks/`."""

from tunematrix.evidence.evidence import Evidence, Exit, collect

__all__ = ["Evidence", "Exit", "collect"]
