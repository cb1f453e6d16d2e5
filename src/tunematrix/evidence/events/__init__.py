"""What a cell writes down while it runs: one frozen dataclass per kind of line.

`stack/` writes them, `checks/` read them, and neither knows the other. Units stand in the
names or in the `Attributes:` lists; every number is what was measured, never what was asked for.
"""

from __future__ import annotations

from tunematrix.evidence.events.adapter import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    AdapterShare,
    Attached,
    LayerFormula,
    LayerScale,
)
from tunematrix.evidence.events.batches import (
    Coverage,
    EvaluationPasses,
    MicroBatch,
    StepLoss,
    Throughput,
)
from tunematrix.evidence.events.command import (
    Command,
    Completion,
    DeviceMemory,
    Launched,
    LibraryLoaded,
    LogSource,
    NoCompletion,
    NoTrainerLog,
    RankEnded,
    Repository,
)
from tunematrix.evidence.events.exporting import StepExported, StepKept
from tunematrix.evidence.events.fetching import FetchedFile, StepFetched
from tunematrix.evidence.events.model import (
    AdapterUse,
    AdapterUses,
    BaseWeights,
    DrawScores,
    Evaluation,
    Generation,
    GroupScales,
    LayerProduct,
    LayerWeight,
    LoadedParameter,
    LogitError,
    Merged,
    Parity,
    Reload,
    SavedSettings,
    Storage,
    StoredLayer,
    StoredState,
    TokenizerRules,
    Transfer,
)
from tunematrix.evidence.events.pipeline import (
    Served,
    ServedAnswer,
    ServerEnded,
    StepAdapter,
    StepBegun,
    StepCache,
    StepDone,
    StepGrammar,
    StepMerged,
    StepProblem,
    StepProgress,
    StepSaved,
    StepScored,
    StepStarted,
    StepTogether,
    StepTrained,
    StepWarning,
)
from tunematrix.evidence.events.preference import LoggedPreference, Preference, PreferenceLoss
from tunematrix.evidence.events.process import (
    BrokenFault,
    BrokenMeter,
    Determinants,
    Device,
    Finished,
    Held,
    Memory,
    Phase,
    Raised,
    Refused,
    Started,
    Switches,
)
from tunematrix.evidence.events.training import (
    Arrivals,
    AttentionKernels,
    Changed,
    Compiled,
    Compute,
    Continuity,
    Draws,
    LoggedEvaluation,
    LoggedStep,
    OptimizerStep,
    Rank,
    Trainable,
    TrainedDtypes,
)

Event = (
    Started
    | Determinants
    | Switches
    | Phase
    | Raised
    | Refused
    | BrokenFault
    | BrokenMeter
    | Finished
    | Device
    | TokenizerRules
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
    | Compiled
    | Changed
    | Continuity
    | Coverage
    | EvaluationPasses
    | AdapterScale
    | AdapterUses
    | Arrivals
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
    | DrawScores
    | Generation
    | Parity
    | Transfer
    | Preference
    | PreferenceLoss
    | LoggedPreference
    | Command
    | Completion
    | DeviceMemory
    | LibraryLoaded
    | Launched
    | NoCompletion
    | NoTrainerLog
    | RankEnded
    | Repository
    | LogSource
    | StepAdapter
    | Served
    | ServedAnswer
    | ServerEnded
    | StepBegun
    | StepCache
    | StepDone
    | StepExported
    | StepFetched
    | StepGrammar
    | StepKept
    | StepMerged
    | StepProblem
    | StepProgress
    | StepSaved
    | StepStarted
    | StepScored
    | StepTogether
    | StepTrained
    | StepWarning
)

__all__ = [
    "AdapterDropout",
    "AdapterFormula",
    "AdapterScale",
    "AdapterShare",
    "AdapterUse",
    "AdapterUses",
    "Arrivals",
    "Attached",
    "AttentionKernels",
    "BaseWeights",
    "BrokenFault",
    "BrokenMeter",
    "Changed",
    "Command",
    "Compiled",
    "Completion",
    "Compute",
    "Continuity",
    "Coverage",
    "Determinants",
    "Device",
    "DeviceMemory",
    "DrawScores",
    "Draws",
    "Evaluation",
    "EvaluationPasses",
    "Event",
    "FetchedFile",
    "Finished",
    "Generation",
    "GroupScales",
    "Held",
    "Launched",
    "LayerFormula",
    "LayerProduct",
    "LayerScale",
    "LayerWeight",
    "LibraryLoaded",
    "LoadedParameter",
    "LogSource",
    "LoggedEvaluation",
    "LoggedPreference",
    "LoggedStep",
    "LogitError",
    "Memory",
    "Merged",
    "MicroBatch",
    "NoCompletion",
    "NoTrainerLog",
    "OptimizerStep",
    "Parity",
    "Phase",
    "Preference",
    "PreferenceLoss",
    "Raised",
    "Rank",
    "RankEnded",
    "Refused",
    "Reload",
    "Repository",
    "SavedSettings",
    "Served",
    "ServedAnswer",
    "ServerEnded",
    "Started",
    "StepAdapter",
    "StepBegun",
    "StepCache",
    "StepDone",
    "StepExported",
    "StepFetched",
    "StepGrammar",
    "StepKept",
    "StepLoss",
    "StepMerged",
    "StepProblem",
    "StepProgress",
    "StepSaved",
    "StepScored",
    "StepStarted",
    "StepTogether",
    "StepTrained",
    "StepWarning",
    "Storage",
    "StoredLayer",
    "StoredState",
    "Switches",
    "Throughput",
    "TokenizerRules",
    "Trainable",
    "TrainedDtypes",
    "Transfer",
]
