"""Whether the suite notices faults that real releases had: a table of them → findings.

`table` reads the rows, `overlays` makes what differs from this environment importable, `run` takes
the rows' cells through both sides, `verdicts` decides what that says. Nothing here imports an ML
library.
"""
