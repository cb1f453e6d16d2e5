"""What the probe writes: one frozen dataclass per kind of line, in the process that trains.

The probe writes these, the driver reads them, and this package is all that they share: it imports
the standard library alone and must run under Python 3.9. A line is the JSON of the fields with
`kind`, the name of the class. Steps count from 0 for each optimizer; models and optimizers are
numbered from 0 in the order in which they were first seen. Lists of names hold the first `NAMES`;
the count beside them is of all. A figure that couldn't be had is None, and what could not be looked
at at all is told by `SwitchedOff`.
"""

from __future__ import annotations

from .audited import (
    SeenGradient,
    SeenLoss,
    SeenPrecision,
    SeenUpdate,
)
from .process import (
    ProbeEnded,
    ProbeStarted,
    SeenLoaderWorker,
    SeenModel,
    SwitchedOff,
)
from .steps import (
    SeenBatch,
    SeenClip,
    SeenGroup,
    SeenOptimizer,
    SeenScaler,
    SeenScheduler,
    SeenStep,
)
from .weights import (
    SeenCoverage,
    SeenEvaluation,
    SeenMoved,
    SeenSaved,
    SeenWeights,
)

NAMES = 20
"""Names that a list of them holds at most."""
RECORDS = (
    ProbeEnded,
    ProbeStarted,
    SeenBatch,
    SeenCoverage,
    SeenEvaluation,
    SeenGradient,
    SeenLoaderWorker,
    SeenLoss,
    SeenModel,
    SeenMoved,
    SeenOptimizer,
    SeenPrecision,
    SeenSaved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
    SeenWeights,
    SwitchedOff,
)
"""All kinds of lines; other classes here are parts of them."""

__all__ = [
    "NAMES",
    "RECORDS",
    "ProbeEnded",
    "ProbeStarted",
    "SeenBatch",
    "SeenClip",
    "SeenCoverage",
    "SeenEvaluation",
    "SeenGradient",
    "SeenGroup",
    "SeenLoaderWorker",
    "SeenLoss",
    "SeenModel",
    "SeenMoved",
    "SeenOptimizer",
    "SeenPrecision",
    "SeenSaved",
    "SeenScaler",
    "SeenScheduler",
    "SeenStep",
    "SeenUpdate",
    "SeenWeights",
    "SwitchedOff",
]
