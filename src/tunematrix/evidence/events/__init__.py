"""What a cell writes down while it runs: one frozen dataclass per kind of line.

`stack/` writes them, `checks/` read them, and neither knows the other. Units stand in the
names or in the `Attributes:` lists; every number is what was measured, never what was asked for.
"""

from __future__ import annotations

from tunematrix.evidence.events.adapter import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    Attached,
)
from tunematrix.evidence.events.model import (
    BaseWeights,
    Evaluation,
    Generation,
    LogitError,
    Merged,
    Parity,
    Reload,
    SavedSettings,
    Storage,
    Transfer,
)
from tunematrix.evidence.events.preference import LoggedPreference, Preference, PreferenceLoss
from tunematrix.evidence.events.process import (
    Determinants,
    Device,
    Finished,
    Held,
    Memory,
    Phase,
    Raised,
    Started,
    Switches,
)
from tunematrix.evidence.events.training import (
    Changed,
    Compute,
    Continuity,
    Coverage,
    Draws,
    EvaluationPasses,
    LoggedEvaluation,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
    Rank,
    StepLoss,
    Throughput,
    Trainable,
    TrainedDtypes,
)

Event = (
    Started
    | Determinants
    | Switches
    | Phase
    | Raised
    | Finished
    | Device
    | Storage
    | BaseWeights
    | LogitError
    | Trainable
    | Attached
    | Draws
    | MicroBatch
    | OptimizerStep
    | StepLoss
    | LoggedStep
    | LoggedEvaluation
    | Compute
    | Changed
    | Continuity
    | Coverage
    | EvaluationPasses
    | AdapterScale
    | AdapterDropout
    | AdapterFormula
    | TrainedDtypes
    | Evaluation
    | Memory
    | Held
    | Throughput
    | Rank
    | Reload
    | SavedSettings
    | Merged
    | Generation
    | Parity
    | Transfer
    | Preference
    | PreferenceLoss
    | LoggedPreference
)

__all__ = [
    "AdapterDropout",
    "AdapterFormula",
    "AdapterScale",
    "Attached",
    "BaseWeights",
    "Changed",
    "Compute",
    "Continuity",
    "Coverage",
    "Determinants",
    "Device",
    "Draws",
    "Evaluation",
    "EvaluationPasses",
    "Event",
    "Finished",
    "Generation",
    "Held",
    "LoggedEvaluation",
    "LoggedPreference",
    "LoggedStep",
    "LogitError",
    "Memory",
    "Merged",
    "MicroBatch",
    "OptimizerStep",
    "Parity",
    "Phase",
    "Preference",
    "PreferenceLoss",
    "Raised",
    "Rank",
    "Reload",
    "SavedSettings",
    "Started",
    "StepLoss",
    "Storage",
    "Switches",
    "Throughput",
    "Trainable",
    "TrainedDtypes",
    "Transfer",
]
