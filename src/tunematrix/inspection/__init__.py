"""Configs and command lines checked without training: files in, faults with file and line out.

`layout` and `tree` read YAML and find out what each file is, `source` reads the project's Python,
and `examine` has a process of its own, `examiner`, compose, resolve, import and build. Only that
process runs code of the project. `runners` calls the project's command lines.
"""

from tunematrix.inspection.examine import examine
from tunematrix.inspection.reports import ConfigReport
from tunematrix.inspection.tree import discover

__all__ = ["ConfigReport", "discover", "examine"]
