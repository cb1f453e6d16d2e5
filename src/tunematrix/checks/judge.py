"""All checks, in the order in which a reader wants to see them fail."""

from __future__ import annotations

from tunematrix.checks import loss, parameters, process, quantization, resources, settings
from tunematrix.checks.verdict import Check, Claim, Verdict
from tunematrix.evidence.evidence import Evidence

OF_THE_PROCESS: tuple[Check, ...] = (
    process.exit_status,
    process.left_behind,
    process.standard_error,
    process.warned_standard_error,
)

OF_TRAINING: tuple[Check, ...] = (
    settings.device,
    quantization.stored_bits,
    quantization.logit_error,
    parameters.trainable,
    settings.labels,
    settings.micro_batches,
    settings.gradient_checkpointing,
    settings.precision,
    loss.first_loss,
    settings.learning_rate,
    settings.clipping,
    settings.optimizer_update,
    parameters.moved,
    parameters.frozen,
    settings.adapter_scale,
    parameters.reloaded,
    loss.steps_logged,
)

OF_THE_SPEC: tuple[Check, ...] = (
    process.expected_files,
    loss.finite_loss,
    loss.first_logged_loss,
    loss.final_loss,
    loss.gap_closed,
    resources.memory_stored,
    resources.memory_allocator_peak,
    resources.memory_process_peak,
    resources.throughput,
)


def judge(evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    """Return every verdict; a run that didn't reach its end is judged by how it ended alone."""
    verdicts = _all(OF_THE_PROCESS, evidence, claim)
    if verdicts[0].outcome == "failed":
        return verdicts
    trained = OF_TRAINING if claim.option("recipe").get("trains") else ()
    return verdicts + _all((*trained, *OF_THE_SPEC), evidence, claim)


def _all(checks: tuple[Check, ...], evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    found = (check(evidence, claim) for check in checks)
    return tuple(verdict for verdict in found if verdict is not None)
