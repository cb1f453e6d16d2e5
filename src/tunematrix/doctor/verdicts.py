"""What a trial left behind → a finding: pure, so that every state can be told apart in a test."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunematrix.checks import log, process, quantization
from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import Check, check
from tunematrix.checks.verdict import Claim, Judgement, Verdict, judge_by
from tunematrix.doctor.findings import BackendFinding, QuantizerFinding, State
from tunematrix.evidence import Evidence
from tunematrix.evidence.events import Changed, Determinants, OptimizerStep, Refused
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.groups import Option
from tunematrix.matrix.requirements import Lack

# What a device's process reports beside what the device is.
_NOT_OF_THE_DEVICE = ("products", "seed", "threads")


def device_finding(option: Option, evidence: Evidence, claim: Claim) -> BackendFinding:
    """Say whether a device works: its process has reached the end, and some product was right."""
    facts: dict[str, Any] = {}
    for event in evidence.all(Determinants):
        facts |= event.values
    products: Mapping[str, str] = facts.get("products", {})
    ended = _ending(evidence, claim)
    right = tuple(dtype for dtype, problem in products.items() if not problem)
    refused = evidence.one(Refused)
    obstacle = None if refused is None else refused.obstacle
    reason = ended.message if obstacle is None else obstacle.found
    if not reason and not right:
        why = next(iter(products.values()), "its process left no product")
        reason = f"matrix products fail in every dtype: {why}"
    state: State = "broken" if obstacle is None or obstacle.present else "not here"
    return BackendFinding(
        name=option.name,
        description=option.declared.description,
        state=state if reason else "works",
        device={key: fact for key, fact in facts.items() if key not in _NOT_OF_THE_DEVICE},
        dtypes=right,
        refused={dtype: problem for dtype, problem in products.items() if problem},
        reason=reason,
        fix="" if obstacle is None else obstacle.to_do,
        seconds=evidence.exit.seconds,
    )


@check(
    name="backward",
    group="doctor",
    reads=(OptimizerStep, Changed),
    bug="quantizers whose backward pass gives no gradient, or none that is finite",
)
def backward(evidence: Evidence, claim: Claim) -> Judgement:
    """The gradients are finite, and not all of them are zero."""
    steps = evidence.all(OptimizerStep)
    # A trainer that keeps its gradients to itself is judged by where they moved the parameters.
    norms = [step.gradient_norm for step in steps if step.gradient_norm is not None]
    audited = [step.deviation for step in steps if step.deviation is not None]
    changed = evidence.one(Changed)
    finite = bool(norms or audited) and all(map(math.isfinite, norms or audited))
    reached = all(norms) if norms else changed is not None and bool(changed.moved)
    message = (
        "no gradient reached what is trained"
        if finite
        else "the gradients aren't finite numbers, or were never seen"
    )
    wanted = "finite, above 0"
    measured = wanted if finite and reached else "all of them 0" if finite else "not finite"
    return judge_by(Exactly(wanted), measured, message)


CHECKS: tuple[Check, ...] = (
    quantization.stored_bits,
    quantization.logit_error,
    backward,
    log.finite_loss,
)
"""What a quantizer that a backend has must pass in one step, once its process has ended well."""


def quantizer_finding(
    cell: Cell, evidence: Evidence, claim: Claim, tools: Mapping[str, str | None]
) -> QuantizerFinding:
    """Hold a quantizer that is declared to work against what it did in one step."""
    ended = _ending(evidence, claim)
    verdicts = [ended]
    if ended.outcome == "passed":
        judged = (check(evidence, claim) for check in CHECKS)
        verdicts += [verdict for verdict in judged if verdict is not None]
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    bits = next((one.measured for one in verdicts if one.name == "stored_bits"), None)
    finding = (
        differing(cell, f"{failed[0].name}: {failed[0].message}", tools)
        if failed
        else QuantizerFinding(*_pair(cell), "agrees", tools=tools)
    )
    measured = bits if isinstance(bits, float) else None
    return replace(finding, bits_per_weight=measured, seconds=evidence.exit.seconds)


def differing(cell: Cell, reason: str, tools: Mapping[str, str | None]) -> QuantizerFinding:
    """Say that a quantizer doesn't do what is declared; missing tools are the likely cause."""
    absent = [name for name, place in tools.items() if place is None]
    cause = f"it compiles with {', '.join(absent)}, not found here; " if absent else ""
    fix = _advice(absent) if absent else ""
    return QuantizerFinding(*_pair(cell), "differs", f"{cause}{reason}", fix=fix, tools=tools)


def unsupported(exclusion: Exclusion) -> QuantizerFinding:
    """Repeat a declared no."""
    pair = _pair(exclusion.cell)
    return QuantizerFinding(*pair, "unsupported", exclusion.reason, link=exclusion.link)


def unavailable(
    cell: Cell, backend: BackendFinding, lack: Lack | None, tools: Mapping[str, str | None]
) -> QuantizerFinding:
    """Say why a quantizer isn't tried: its backend can't be used, or a library is missing."""
    reason, fix = f"its backend is {backend.state}", ""
    # What is to be installed for a device that isn't there is of no interest.
    if lack is not None and lack.axis != "backend" and backend.state in ("works", "not installed"):
        reason, fix = f"needs {', '.join(lack.modules)}", lack.install
    return QuantizerFinding(*_pair(cell), "unavailable", reason, fix=fix, tools=tools)


def _ending(evidence: Evidence, claim: Claim) -> Verdict:
    """Say how a trial's process ended."""
    verdict = process.exit_status(evidence, claim)
    assert verdict is not None  # each process ends somehow
    return verdict


def _pair(cell: Cell) -> tuple[str, str]:
    return cell.axes["quantizer"], cell.axes["backend"]


def _advice(absent: list[str]) -> str:
    """Return what installs build tools: ninja comes from PyPI, all else from the system."""
    own = (
        "xcode-select --install" if sys.platform == "darwin" else "apt-get install g++ python3-dev"
    )
    commands = ["python -m pip install ninja"] if "ninja" in absent else []
    commands += [own] if set(absent) - {"ninja"} else []
    return "; ".join(commands)
