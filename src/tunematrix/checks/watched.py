"""Whether anything was watched in a training process, where it computed, and how it grew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed
from tunematrix.errors import counted
from tunematrix.evidence.events import LibraryLoaded
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import MEGABYTE
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    ProbeEnded,
    ProbeStarted,
    SeenModel,
    SeenOptimizer,
    SeenStep,
    SwitchedOff,
)

WATCHED_CHECK = "watched"
"""The check that fails where there was nothing to audit."""
PROBE_FELL_OVER = "partly audited"
"""What that check measures where all that it fails for is an error of the probe's own."""
WHOLE = "wholly audited"
NEEDED_PARTS: Mapping[str, tuple[str, ...]] = {
    "watched_device": ("models",),
    "watched_moved": ("optimizer", "weights", "update"),
    "watched_trainable": ("optimizer", "models", "weights"),
    "watched_frozen": ("models", "weights"),
    "watched_learning_rate": ("optimizer",),
    "watched_schedule": ("optimizer", "schedule"),
    "watched_gradient": ("optimizer", "models", "gradient", "zero", "clipping", "precision"),
    "watched_zeroed": ("optimizer", "zero"),
    "watched_clipping": ("optimizer", "clipping", "precision"),
    "watched_update": ("optimizer", "update"),
    "watched_loss": ("optimizer", "models", "gradient", "loss", "zero", "batch"),
    "watched_labels": ("models", "batch", "loss"),
    "watched_batches": ("models", "batch"),
    "watched_precision": ("models", "gradient", "precision", "clipping"),
    "watched_mode": ("optimizer", "models"),
    "watched_ranks": ("optimizer", "weights"),
    "watched_checkpoint": ("models", "weights", "saving"),
    "watched_memory_growth": ("optimizer",),
}
"""Check to the parts of the probe, see `SwitchedOff`, that it judges the figures of."""
FEW_STEPS = 21
"""Steps below which growth of memory can't be told from a beginning."""
GROWTH = 0.05
"""Share of its memory by which a process may grow between two thirds of a run."""
LEAST_GROWTH = 50 * MEGABYTE
"""Bytes of growth that nobody minds."""


def trainers_in(evidence: Evidence, check_name: str = "") -> tuple[WatchedProcess, ...]:
    """Return the processes in which an optimizer has made a step, by rank.

    Without those in which a part of the probe fell over whose figures this check judges: what it
    had counted by then proves nothing.
    """
    needed = NEEDED_PARTS.get(check_name, ())
    return tuple(
        process
        for process in evidence.watched
        if process.has_stepped
        and not any(off.is_error and off.part in needed for off in process.all(SwitchedOff))
    )


def warned(measured: float | str, limit: float, message: str) -> Judgement:
    """Return a warning: a figure above what is usual, which decides nothing."""
    return Judgement("warned", measured, AtMost(limit), message)


def worst_of(found: Sequence[Judgement]) -> Judgement | None:
    """Return the first failure, else the first warning, else any; None where there is none."""
    order = ("failed", "warned", "passed")
    return min(found, key=lambda one: order.index(one.outcome), default=None)


def device_of(evidence: Evidence) -> str:
    """Return the kind of device that holds most of what is trained; empty where nothing is."""
    devices: Counter[str] = Counter()
    for process in trainers_in(evidence):
        for model in process.all(SeenModel):
            devices.update(model.devices)
    return devices.most_common(1)[0][0] if devices else ""


def versions_of(evidence: Evidence) -> Mapping[str, str]:
    """Return distribution to version, of PyTorch and what is around it where it trained."""
    first = next((one.one(ProbeStarted) for one in trainers_in(evidence)), None)
    return {} if first is None else first.versions


def seen_in(evidence: Evidence) -> str:
    """Say in a line what was watched: processes, optimizers, steps, and how many were audited."""
    trainers = trainers_in(evidence)
    if not trainers:
        return "nothing"
    first = trainers[0]
    steps = first.all(SeenStep)
    audited = sum(step.audited for step in steps)
    last = _last_audited(first)
    names = [one.name.rpartition(".")[2] for one in first.all(SeenOptimizer)]
    models = [model.name for model in first.all(SeenModel)]
    where = counted(len(trainers), "process")
    each = " each" if len(trainers) > 1 else ""
    return (
        f"{listed(models) or 'no model'}: {counted(len(steps), 'step')}{each} of "
        f"{listed(names) or 'an optimizer'} in {where}, {audited} audited"
        f"{f', the last is step {last}' if last else ''}"
    )


def _last_audited(process: WatchedProcess) -> str:
    """Return the number of the last audited step, of all; empty where none follows it."""
    steps = process.all(SeenStep)
    audited = [step for step in steps if step.audited]
    if not audited or steps[-1] is audited[-1]:
        return ""
    last, optimizer = audited[-1].step, audited[-1].optimizer
    made = 1 + max(step.step for step in steps if step.optimizer == optimizer)
    return f"{last + 1} of {made}" if last + 1 < made else ""


@check(
    name=WATCHED_CHECK,
    group="watch",
    unit="steps",
    bug="a script that trains in a way that nothing looks into, or doesn't train at all",
)
def watched(evidence: Evidence, claim: Claim) -> Judgement:
    """An optimizer has made a step under the probe, so that there is something to audit.

    Reads what the probe wrote in each process that imported PyTorch. Fails when none of them made a
    step of an optimizer. Warns when a part of the probe fell over, or a file of it can't be read:
    the checks that need it are left out. With the spec's `watch.strict`, or `--strict`, it fails
    then. What can't be looked into by its nature, such as the formula of a foreign optimizer, is
    named and is no warning; so is the last step that was audited, where more steps follow.
    """
    trainers = trainers_in(evidence)
    steps = sum(len(process.all(SeenStep)) for process in trainers)
    bound = AtLeast(1)
    if not steps:
        return judge_by(bound, 0, _nothing(evidence))
    off = [one for process in trainers for one in process.all(SwitchedOff)]
    errors = [one for one in off if one.is_error]
    unreadable = sum(process.unreadable for process in evidence.watched)
    notes = list(dict.fromkeys(map(_off, errors)))
    if unreadable:
        notes.append(f"{counted(unreadable, 'line')} of the probe can't be read")
    if notes:
        text = f"not everything was looked at: {'; '.join(notes)}; training itself went on"
        if claim.config.watch is not None and claim.config.watch.strict:
            text += ". Report it with the evidence, or leave out strict, and this is a warning"
            return Judgement("failed", PROBE_FELL_OVER, Exactly(WHOLE), text)
        return Judgement("warned", steps, bound, text)
    told = "; ".join(dict.fromkeys(map(_off, off)))
    last = _last_audited(trainers[0])
    parts = [f"not looked at: {told}" if told else ""]
    parts += [f"the last step that was audited is {last}"] if last else []
    return Judgement("passed", steps, bound, "; ".join(filter(None, parts)))


def _off(one: SwitchedOff) -> str:
    at = f" ({one.place})" if one.place else ""
    return f"{one.part}: {one.reason}{at}"


def _nothing(evidence: Evidence) -> str:
    """Say what was seen where no optimizer has stepped, and what to do."""
    text = "nothing was watched: "
    if not evidence.watched:
        library = evidence.one(LibraryLoaded)
        if library is not None and library.loaded:
            return (
                f"{text}a process loaded PyTorch without the probe; likely Python runs with -I or "
                "-E, which ignore PYTHONPATH, or the command sets that variable itself"
            )
        return (
            f"{text}no process of the command imported PyTorch; give the command that trains, "
            "such as python train.py"
        )
    programs = [one.program for process in evidence.watched for one in process.all(ProbeStarted)]
    ends = [end for process in evidence.watched for end in process.all(ProbeEnded)]
    backward = sum(end.backward_passes for end in ends)
    forward = sum(end.forward_passes for end in ends)
    return (
        f"{text}{listed(list(dict.fromkeys(programs))) or 'a process'} imported PyTorch and made "
        f"{counted(forward, 'forward pass')}, {counted(backward, 'backward pass')} and no step of "
        "an optimizer of torch.optim; likely it ended before it trained, or trains by other means"
    )


@check(
    name="watched_device",
    group="watch",
    bug="training that falls back to the CPU, and is right but slow",
)
def watched_device(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What trains lies on the device that was asked for.

    Reads the devices of the parameters of each model that trains. Fails when one of them isn't of
    the kind that the spec's `watch.device`, or `--device`, names. Where none is named, warns when
    all lie on the CPU of a machine with an accelerator that PyTorch could use.
    """
    trainers = trainers_in(evidence, "watched_device")
    models = [model for process in trainers for model in process.all(SeenModel)]
    if not models:
        return None
    found = sorted({name for model in models for name in model.devices})
    shown = ", ".join(found)
    asked = None if claim.config.watch is None else claim.config.watch.device
    if asked is not None:
        message = f"parameters are on {shown}; look for a device in the command's configuration"
        return judge_by(Exactly(asked), shown, message)
    unused = sorted({name for model in models for name in model.accelerators})
    if found == ["cpu"] and unused:
        text = f"all parameters are on the CPU, and PyTorch could use {', '.join(unused)} here"
        return Judgement("warned", shown, Exactly(unused[0]), text)
    return Judgement("passed", shown, None, "")


@check(
    name="watched_memory_growth",
    group="watch",
    unit="MB",
    bug="losses that are summed up with their graphs, outputs kept in a list",
)
def watched_memory_growth(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A training process doesn't need more memory with each step.

    Reads the memory of the process, or of its accelerator, after each step. Never fails; warns when
    the last third of the run has at least 5 % and 50 MB more than the first (medians, after five
    steps), and grew no more slowly than the second. Not judged below 21 steps.
    """
    growths = [
        growth
        for process in trainers_in(evidence, "watched_memory_growth")
        for growth in _growth(process)
    ]
    if not growths:
        return None
    most = max(growths)
    if most == 0:
        return Judgement("passed", 0.0, AtMost(LEAST_GROWTH / MEGABYTE), "")
    text = (
        f"it grew by {most / MEGABYTE:.0f} MB from the first third of its steps to the last, and "
        "goes on; likely losses or outputs are kept with their graphs: use .item() or .detach()"
    )
    return warned(most / MEGABYTE, LEAST_GROWTH / MEGABYTE, text)


def _growth(process: WatchedProcess) -> Iterator[float]:
    """Yield by how many bytes a process has grown steadily; 0 where it hasn't."""
    memory = [step.memory for step in process.all(SeenStep) if step.memory][5:]
    if len(memory) < FEW_STEPS - 5:
        return
    third = len(memory) // 3
    first, second, last = (median(memory[n * third : (n + 1) * third]) for n in range(3))
    grows = last - first > max(GROWTH * first, LEAST_GROWTH)
    yield last - first if grows and last - second >= (second - first) / 2 else 0.0
