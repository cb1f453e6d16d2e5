"""An honest run whose evidence passes every check, and of which a test changes one thing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.unit.honest import BOUNDS, CONFIG, honest_events
from tests.unit.watched import honest_process

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration import Configuration
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import (
    AdapterShare,
    BaseWeights,
    Command,
    Completion,
    Coverage,
    DeviceMemory,
    EvaluationPasses,
    Event,
    FetchedFile,
    Launched,
    LayerWeight,
    LibraryLoaded,
    LoadedParameter,
    LoggedPreference,
    LoggedStep,
    LogSource,
    MicroBatch,
    Preference,
    PreferenceLoss,
    Rank,
    Repository,
    SavedSettings,
    Served,
    ServedAnswer,
    ServerEnded,
    StepAdapter,
    StepBegun,
    StepCache,
    StepExported,
    StepFetched,
    StepGrammar,
    StepKept,
    StepLoss,
    StepMerged,
    StepProgress,
    StepSaved,
    StepScored,
    StepStarted,
    StepTogether,
    StepTrained,
)
from tunematrix.spec import Spec


@dataclass(frozen=True)
class Run:
    """Evidence and claim of one cell; every method but the last three returns a changed copy."""

    evidence: Evidence
    bounds: Mapping[str, Any]
    config: Configuration

    def recording(self, *events: Event) -> Run:
        """Put these events in the place of all of their kinds."""
        kinds = tuple({type(event) for event in events})
        return self.without(*kinds)._with(events=(*self.without(*kinds).evidence.events, *events))

    def without(self, *kinds: type[Event]) -> Run:
        """Leave out all events of these kinds."""
        return self._with(events=tuple(e for e in self.evidence.events if not isinstance(e, kinds)))

    def edited(self, kind: type[Event], position: int = -1, **fields: Any) -> Run:
        """Change fields of one event of a kind, the last if not said otherwise."""
        wanted = self.evidence.all(kind)[position]
        changed = replace(wanted, **fields)
        events = [changed if event is wanted else event for event in self.evidence.events]
        return self._with(events=tuple(events))

    def ending(self, **fields: Any) -> Run:
        """Change how the process ended."""
        return self._with(exit=replace(self.evidence.exit, **fields))

    def leaving(self, **fields: Any) -> Run:
        """Change what it printed and which files it made."""
        return self._with(**fields)

    def asked(self, **bounds: Any) -> Run:
        """Change what the spec asks."""
        return replace(self, bounds={**self.bounds, **bounds})

    def configured(self, **settings: Any) -> Run:
        """Change settings: axis=option name, or a dict that is merged into the section."""
        config = self.config.model_dump()
        for section, values in settings.items():
            config[section] = {**(config[section] or {}), **values}
        return replace(self, config=Configuration.model_validate(config))

    @property
    def claim(self) -> Claim:
        """What the cell claims."""
        return Claim(Spec.model_validate(self.bounds), self.config)

    def verdicts(self) -> dict[str, Verdict]:
        """Judge it: check to verdict."""
        return {verdict.name: verdict for verdict in judge(self.evidence, self.claim)}

    def failed(self) -> set[str]:
        """Judge it: names of the checks that failed."""
        return {name for name, verdict in self.verdicts().items() if verdict.outcome == "failed"}

    def _with(self, **fields: Any) -> Run:
        return replace(self, evidence=replace(self.evidence, **fields))


@pytest.fixture
def ranks(run: Run) -> Run:
    """The same run, by two processes that shared its rows."""
    first = Rank(0, 2, "gloo", 16, ("a", "b"), "digest", 4096, 4096)
    second = Rank(1, 2, "gloo", 16, ("c", "d"), "digest", 4096, 4096)
    launcher = {"processes": 2, "shards": False, "collectives": {"cpu": "gloo", "cuda": "nccl"}}
    return run.recording(first, second).configured(launcher=launcher)


@pytest.fixture
def commanding(run: Run) -> Run:
    """A trainer's command that was served after it, on a GPU."""
    return (
        run.configured(
            recipe={"owes": ("process", "log", "files", "memory"), "runs_command": True},
            backend={"device": "cuda", "gpu": True, "library": "libcuda"},
        )
        .asked(recipe=None, project_dir="p", config="c", inference={}, expected_files=())
        .asked(min_steps_logged=1)
        .recording(
            Command(("python", "train.py"), "p", 1, {"max_steps": "4"}),
            LogSource("logs/trainer_logs.json", "trainer_logs", cut_off=False),
            Repository((), "git status"),
            DeviceMemory(500_000_000, "memory of the command's own processes"),
            LibraryLoaded("libcuda", loaded=True),
            Launched(2, 2, "processes with a log of their own"),
            Completion("Once", " upon a time", 50.0, "gpt2", "checkpoint-4"),
        )
    )


@pytest.fixture
def watching(run: Run) -> Run:
    """A command that trained a LoRA adapter, and was watched from the inside."""
    return run.configured(recipe={"owes": ("process",)}, watch={}).leaving(
        watched=(honest_process(),)
    )


@pytest.fixture
def serving(run: Run) -> Run:
    """A merged adapter that was served, and answered as in the step's own process."""
    url, once, well = "http://127.0.0.1:20001/v1", " upon a time", " there it is"
    return run.configured(recipe={"owes": ("process", "pipeline")}).recording(
        Served("serve", url, "merged", True, 9.5),
        ServedAnswer("serve", "completion", "Once", once, 3, None, once, 3, once, (once,) * 4),
        ServedAnswer("serve", "chat", "Well?", well, 4, 9, well, 4, well, (well,) * 4),
        ServerEnded("serve", -15, False, 1.2, (), True),
    )


@pytest.fixture
def taught(run: Run) -> Run:
    """A pipeline that was fine-tuned, and aligned over the merged adapter."""
    model, training = {"path": "base"}, {"max_steps": 4}
    sft = {"model": model, "dataset": {"path": "a.json"}, "training": training}
    dpo = {"model": model, "dataset": {"path": "b.json"}, "alignment": training}
    steps = {
        "sft": {**sft, "expect": {"loss_max": 2.5}},
        "dpo": {**dpo, "expect": {"preference_min": 0.8}},
    }
    return (
        run.configured(recipe={"owes": ("process", "pipeline")}, steps=steps)
        .asked(recipe="pipeline", steps=PipelineSteps.model_validate(steps))
        .recording(
            StepTrained("sft", 4, 0, 14, 28, "loss", 3.0, 2.0, (3.0, 2.7, 2.4, 2.1)),
            StepSaved("sft", 2.0),
            StepStarted("dpo", 28, 0),
            StepMerged("dpo", 0.45, 0.5, 0.5),
            StepTrained("dpo", 4, 0, 28, 28, "preference", 0.5, 0.9, (0.7, 0.6, 0.5, 0.4)),
            StepSaved("dpo", 0.9),
        )
    )


@pytest.fixture
def exporting(run: Run) -> Run:
    """A pipeline whose only step has exported a merged adapter in 4 bits."""
    steps = {"finalize": {"model": {"path": "sft"}}}
    weights = BaseWeights(
        layers=(LayerWeight("q_proj", 0.0925, 0.0924), LayerWeight("k_proj", 0.091, 0.092)),
        products=(),
        others=(LoadedParameter("norm.weight", 0.0), LoadedParameter("embed.weight", 2e-8)),
    )
    return (
        run.configured(recipe={"owes": ("process", "pipeline")}, steps=steps)
        .asked(recipe="pipeline", steps=PipelineSteps.model_validate(steps))
        .recording(
            StepKept(
                "finalize",
                weights,
                (AdapterShare("q_proj", 0.992, 0.004), AdapterShare("k_proj", 1.003, 0.005)),
                (AdapterShare("q_proj", 1.0, 1e-8), AdapterShare("k_proj", 1.0, 1e-8)),
            ),
            StepExported("finalize", 12.0, 0.0),
            SavedSettings("finalize", ()),
        )
    )


@pytest.fixture
def fetching(run: Run) -> Run:
    """A pipeline whose only step has downloaded a large file and a small one."""
    model = {"repo": "good/tiny", "files": ["*"], "output_dir": "tiny"}
    steps = {"download": {"models": [model]}}
    commit = "c" * 40
    files = (
        FetchedFile("config.json", 23, "", "b" * 40, "1" * 64, "1" * 64, "b" * 40),
        FetchedFile("model.safetensors", 3_000, "2" * 64, "", "2" * 64, "2" * 64, "d" * 40),
    )
    return (
        run.configured(recipe={"owes": ("process", "pipeline")}, steps=steps)
        .asked(recipe="pipeline", steps=PipelineSteps.model_validate(steps))
        .recording(
            StepFetched(
                "download", "good/tiny", "main", "http://hub", commit, commit, "tiny", files
            )
        )
    )


@pytest.fixture
def answering(run: Run) -> Run:
    """A pipeline whose only step has answered four prompts by a model with an adapter."""
    return (
        run.configured(recipe={"owes": ("process", "pipeline")})
        .asked(recipe="pipeline", generation={"min_grammatical": 0.75})
        .recording(
            StepBegun("generate", "sft", "base", "sft", "out", "4 answers"),
            StepProgress("generate", "prompts", 4, 4),
            StepTogether("generate", 4, (0.0, 0.0, 1e-6, 0.0)),
            StepCache("generate", (0.0, 0.0, 1e-6, 0.0), (3e-7, 4e-7, 2e-6, 3e-7)),
            StepAdapter("generate", 4, 3, 2.5, 0.0),
            StepGrammar("generate", 4, 3),
            StepScored("generate", "gpt2", (30.0, 40.0, 50.0, 60.0), 0, 500.0),
        )
    )


@pytest.fixture
def run() -> Run:
    """A whole, honest QLoRA run whose spec asks for everything."""
    evidence = Evidence(
        exit=Exit(0, None, False, (), 14.0, "forkserver"),
        events=honest_events(),
        stdout="",
        stderr="",
        files=("model/adapter_config.json", "model/adapter_model.safetensors"),
    )
    return Run(evidence, BOUNDS, Configuration.model_validate(CONFIG))


@pytest.fixture
def preferring(run: Run) -> Run:
    """The same run, but trained by DPO: two sequences a row, and a reference beside the policy."""
    losses = ((math.log(2), 3.0), (0.66, 2.0), (0.53, 0.8), (0.3, 0.5))
    margins = [-10 * math.log(math.exp(loss) - 1) for loss, _ in losses]
    owes = tuple("preferences" if group == "texts" else group for group in run.config.recipe.owes)
    return (
        run.configured(recipe={"owes": owes, "sequences_per_row": 2})
        .asked(loss={}, preference={"min": 0.9, "max": 0.99})
        .recording(
            *(replace(batch, rows=4) for batch in run.evidence.all(MicroBatch)),
            *(LoggedStep(step, *line) for step, line in enumerate(losses, start=1)),
            Preference("before", 0.53, 64),
            *(
                PreferenceLoss(step, loss, -16.0 + margin, -17.0, -16.0, -17.0, norm)
                for step, ((loss, _), margin, norm) in enumerate(
                    zip(losses, margins, (3.0, None, None, None), strict=True)
                )
            ),
            *(
                LoggedPreference(step, -16.0 + margin, -17.0, 0.1 * margin, 0.0)
                for step, margin in enumerate(margins, start=1)
            ),
            Preference("after", 0.97, 64),
        )
        .without(StepLoss, Coverage, EvaluationPasses)
    )
