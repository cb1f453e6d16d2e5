"""The step `generate` on real models: what its tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tunematrix.checks.registry import registry
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration import Configuration
from tunematrix.configuration.answers import GenerateStep
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.spec import Spec
from tunematrix.spec.bounds import GenerationBound
from tunematrix.stack.steps import generate
from tunematrix.stack.steps.job import StepJob

PROMPTS = (
    "Once upon a time",
    "Once upon a time a brave fox named Tessa lived in Brook. One day Tessa found a",
    "Once",
    "Once upon a time a shy wolf named Basil",
    "Once upon a time a proud lynx named Nora lived in Elm.",
)
BASE = "toyworld://base"
ADAPTER, GPT2_ADAPTER = "adapter", "gpt2-adapter"
"""Stand in settings for folders that are made once."""


@dataclass(frozen=True)
class Ran:
    """What a step has left behind.

    Attributes:
        verdicts: by the names of their checks; failed: those that failed.
        lines: of `generated.jsonl`.
    """

    evidence: Evidence
    verdicts: Mapping[str, Verdict]
    lines: list[dict[str, Any]]

    @property
    def failed(self) -> set[str]:
        """Names of the checks that failed."""
        return {name for name, one in self.verdicts.items() if one.outcome == "failed"}


@dataclass(frozen=True)
class World:
    """Models and adapters that all tests share.

    Attributes:
        folders: by the names that stand in settings.
    """

    config: Configuration
    folders: Mapping[str, Path]
    runs: Iterator[int]
    root: Path

    def run(self, path: str = BASE, *, dry_run: bool = False, **settings: Any) -> Ran:
        """Take the step, and judge it."""
        folder = self.root / str(next(self.runs))
        folder.mkdir()
        given = {"prompts": PROMPTS, **settings}
        if "dataset" in given:
            del given["prompts"]
        given["model"] = {"path": str(self.folders.get(path, path))}
        given["generation"] = {"max_new_tokens": 24, **given.get("generation", {})}
        with EventLog(folder / "events.jsonl") as events:
            job = StepJob("generate", self.config, events, folder, dry_run=dry_run)
            generate.run(GenerateStep.model_validate(given), job)
        evidence = Evidence(
            Exit(0, None, False, (), 1.0, "foreground"),
            read_events(folder / "events.jsonl"), "", "", (),
        )  # fmt: skip
        spec = Spec(
            test_id="step", recipe="pipeline", generation=GenerationBound(min_grammatical=0.9)
        )
        claim = Claim(spec, self.config)
        judged = [one(evidence, claim) for one in registry().in_group("pipeline")]
        verdicts = {one.name: one for one in judged if one is not None}
        file = folder / generate.FILE
        written = file.read_text("utf-8").splitlines() if file.exists() else []
        return Ran(evidence, verdicts, [json.loads(line) for line in written])


def save_adapter(base: Path, folder: Path, layers: Any = "all-linear", **settings: Any) -> None:
    """Save an adapter that says something else than its base, and mostly still tells stories."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(base)
        wanted = LoraConfig(
            r=4, lora_alpha=4, target_modules=layers, task_type="CAUSAL_LM", **settings
        )
        adapted = get_peft_model(model, wanted)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:  # which begins as 0
                    parameter.normal_(0.0, 0.05)
    adapted.save_pretrained(str(folder))
