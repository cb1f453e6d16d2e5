"""What a trainer that is run as a command must prove, beside what every log and process must."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tunematrix.checks.bound import AtLeast, AtMost, Below, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.configuration.trainer import Inference
from tunematrix.evidence.events import (
    Command,
    Completion,
    DeviceMemory,
    Finished,
    Launched,
    LibraryLoaded,
    LoggedStep,
    NoCompletion,
    Repository,
)
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import MEGABYTE, logged_losses

LEAST_LOSSES = 4
"""Fewer logged losses say nothing of whether they fall."""
LEAST_GPU_MB = 32.0
"""A process that computed on a GPU holds its context there, of some hundred MB, and the model."""


@check(
    name="loss_falls",
    group="log",
    reads=(LoggedStep,),
    only_with=Command,
    unit="nats",
    bound_in="loss.falls",
    bug=(
        "parameters that aren't in the optimizer, frozen adapters, a learning rate of 0: a run "
        "that ends with 0 and has trained nothing"
    ),
)
def loss_falls(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The logged loss of a trainer's command falls.

    Reads every logged loss. Fails when the mean over the second half isn't below the mean over
    the first. Judged where four or more are logged, unless the spec says `loss.falls: false`; with
    `loss.falls: true`, two are enough.
    """
    wanted = claim.spec.loss.falls
    if wanted is False:
        return None
    losses = [loss for _, loss in logged_losses(evidence) if math.isfinite(loss)]
    if len(losses) < (2 if wanted else LEAST_LOSSES):
        return missing("two logged losses") if wanted else None
    half = len(losses) // 2
    before, after = _mean(losses[:half]), _mean(losses[-half:])
    cause = (
        "the logged learning rate is 0 throughout"
        if _idle_rates(evidence)
        else "likely too few steps, a learning rate that is too low or too high, or parameters "
        "that nothing trains; loss.falls: false in the spec allows it"
    )
    message = f"it went from {before:.4g} to {after:.4g} (means of the two halves); {cause}"
    return judge_by(Below(0.0), after - before, message)


@check(
    name="learning_rate_logged",
    group="log",
    reads=(LoggedStep,),
    only_with=Command,
    unit="lines",
    bug="a scheduler that never leaves 0, and a warm-up that is longer than the run",
)
def learning_rate_logged(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A trainer's command doesn't log a learning rate of 0 in all of its steps.

    Reads every logged learning rate. Fails when two or more are logged and each is 0.
    """
    rates = _rates(evidence)
    if len(rates) < 2:
        return None
    message = (
        "the learning rate is 0 in every line of the log, so nothing was trained; likely a "
        "warm-up that is longer than the run, or a scheduler that was given no steps"
    )
    above = sum(rate != 0 for rate in rates)
    return judge_by(AtLeast(1), above, message)


@check(
    name="ranks_started",
    group="process",
    reads=(Launched,),
    unit="processes",
    bug=(
        "a command with a launcher or a number of processes of its own, so that each process "
        "trains alone, or one does; `accelerate launch` without `--multi_gpu`, which starts one "
        "process on a CPU, whatever number it is given"
    ),
)
def ranks_started(evidence: Evidence, claim: Claim) -> Judgement | None:
    """As many processes train together as the launcher of a trainer's command has.

    Reads how many processes the launcher has kept a log of, and the variables that those at work
    were started with: a process that starts others to train is a launcher itself. Fails when fewer
    trained together than `launcher.processes`. Not judged for one process, nor where a launcher
    keeps no logs and sets no WORLD_SIZE.
    """
    seen = evidence.one(Launched)
    if seen is None:
        return None
    message = (
        f"{seen.wanted} processes were to train together, and {seen.processes} did "
        f"({seen.way}); likely the trainer's command starts processes of its own, or sets their "
        "number: let the axis launcher do both"
    )
    return judge_by(AtLeast(seen.wanted), seen.processes, message)


@check(
    name="repository_clean",
    group="files",
    reads=(Repository,),
    unit="files",
    bug="an output folder that is ignored, caches and checkpoints that are written beside the code",
)
def repository_clean(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A trainer's command leaves the repository that it is run in as it was.

    Reads what Git says of the repository, and the times and sizes of the files in the project's
    folder, before the run and after it. Caches of Python and of its tools don't count. Fails when
    a file was added, changed or removed.
    """
    seen = evidence.one(Repository)
    if seen is None:
        return None
    others = f" beside {listed(seen.beside)}" if seen.beside else ""
    message = (
        f"changed while it ran{others}: {listed(seen.changed)}; likely the trainer ignores its "
        "output folder, or keeps a cache beside its code; if you changed it yourself, run it again"
    )
    return judge_by(Exactly(0, note=seen.way), len(seen.changed), message)


@check(
    name="gpu_used",
    group="memory",
    reads=(DeviceMemory,),
    only_with=Command,
    unit="MB",
    bug="a trainer that falls back to the CPU, and is right but slow",
)
def gpu_used(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A trainer's command in an environment with CUDA really takes memory on the GPU.

    Reads the memory that its processes took on the devices, twice a second; in a container, where
    these have other numbers, the growth of what is in use. Fails when it stays below 32 MB.
    """
    if not claim.config.backend.cuda:
        return None
    seen = evidence.one(DeviceMemory)
    if seen is None:
        return missing("the memory on the GPU (nvidia-smi)")
    message = (
        f"its processes took {seen.bytes / MEGABYTE:.0f} MB ({seen.method}); likely it trained on "
        "the CPU: look for a device in its configuration"
    )
    return judge_by(AtLeast(LEAST_GPU_MB), seen.bytes / MEGABYTE, message)


@check(
    name="library_loaded",
    group="process",
    reads=(LibraryLoaded,),
    only_with=Command,
    bug="a trainer that falls back to another library, and is right but proves nothing of this one",
)
def library_loaded(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A trainer's command loads the library of its backend, where the backend names one.

    Reads which shared libraries its processes had in their memory, five times a second. Fails when
    none of them had it: the command computed with something else.
    """
    wanted, seen = claim.config.backend.library, evidence.one(LibraryLoaded)
    if not wanted or evidence.one(Finished) is None:
        return None
    if seen is None:
        return missing(f"whether a process loaded {wanted}")
    message = (
        f"no process of the command loaded {wanted}, so backend {claim.config.backend.name} "
        "computed nothing; look for a device or a backend in the trainer's configuration"
    )
    return judge_by(Exactly("loaded"), "loaded" if seen.loaded else "not loaded", message)


@check(
    name="completion_perplexity",
    group="files",
    reads=(Completion, NoCompletion),
    unit="perplexity",
    bound_in="inference",
    bug="checkpoints that don't load, and models that were trained to write nonsense",
)
def completion_perplexity(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The served checkpoint completes a prompt to a text that a reference model finds likely.

    Reads the completion that a real server gave, and the perplexity of prompt and completion by
    the scorer. Fails when it is above `inference.perplexity_max`, or there is none.
    """
    wanted, seen = _inference(claim), evidence.one(Completion)
    failed = evidence.one(NoCompletion)
    if wanted is None and failed is None:
        return None
    bound = None if wanted is None else AtMost(wanted.perplexity_max)
    if seen is None or bound is None:
        reason = "it never came to that" if failed is None else failed.reason
        return Judgement("failed", None, bound, f"no completion was scored: {reason}")
    message = (
        f"{seen.prompt!r} was completed with {seen.text[:80]!r}; by {seen.scorer} that is as "
        "unlikely as text of a poorly trained model; train longer, or look at the tokenizer that "
        "was saved"
    )
    bound = replace(bound, note=f"by {seen.scorer}")
    return judge_by(bound, seen.perplexity, message, provided=bool(seen.text.strip()))


def _inference(claim: Claim) -> Inference | None:
    """Return the completion that is asked for, by the spec or by a step that serves."""
    steps = claim.config.steps
    serve = None if steps is None else steps.serve
    return claim.spec.inference if serve is None else serve.inference


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rates(evidence: Evidence) -> list[float]:
    steps = evidence.all(LoggedStep)
    return [step.learning_rate for step in steps if step.learning_rate is not None]


def _idle_rates(evidence: Evidence) -> bool:
    rates = _rates(evidence)
    return bool(rates) and not any(rates)
