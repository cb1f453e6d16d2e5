"""All checks, in the order in which a reader wants to see them fail."""

from __future__ import annotations

from collections.abc import Mapping

from tunematrix.checks import (
    batches,
    effects,
    generation,
    interruption,
    loss,
    parameters,
    parity,
    preference,
    process,
    quantization,
    ranks,
    resources,
    settings,
    steps,
)
from tunematrix.checks.verdict import Check, Claim, Verdict
from tunematrix.evidence.evidence import Evidence

OF_THE_PROCESS: tuple[Check, ...] = (
    process.exit_status,
    process.left_behind,
    process.standard_error,
    process.warned_standard_error,
)

OF_A_BASE: tuple[Check, ...] = (
    quantization.stored_bits,
    quantization.base_weights,
    quantization.base_products,
)

OF_TRAINING: tuple[Check, ...] = (
    *OF_A_BASE,
    quantization.logit_error,
    parameters.trainable,
    effects.attached,
    batches.labels,
    batches.micro_batches,
    ranks.ranks,
    batches.gradient_checkpointing,
    batches.activations,
    settings.precision,
    settings.attention_kernel,
    effects.seed,
    settings.switches,
    effects.trained_dtypes,
    effects.adapter_dropout,
    effects.dropout_factor,
    effects.dropout_independent,
    settings.learning_rate,
    settings.logged_rate,
    steps.clipping,
    steps.optimizer_update,
    interruption.interrupted,
    parameters.moved,
    effects.moved_share,
    effects.continuity,
    parameters.frozen,
    settings.adapter_scale,
    effects.adapter_formula,
    effects.adapter_rank,
    parameters.reloaded,
    parameters.merged,
    parameters.saved_settings,
    resources.held,
    loss.evaluations,
    loss.steps_logged,
)

OF_TEXTS: tuple[Check, ...] = (
    loss.first_loss,
    loss.step_losses,
    loss.evaluation_loss,
    steps.gradient,
    batches.coverage,
)

OF_PREFERENCES: tuple[Check, ...] = (
    preference.dpo_first_loss,
    preference.dpo_loss,
    preference.dpo_gradient,
    preference.dpo_reference,
    preference.preference,
)

OF_GENERATION: tuple[Check, ...] = (
    generation.grammatical,
    generation.cache,
    generation.seeded,
    generation.sampled_nats,
)

OF_PARITY: tuple[Check, ...] = (
    parity.parity_logits,
    parity.parity_gradients,
    parity.parity_trace,
)

OF_A_RECIPE: Mapping[str, tuple[Check, ...]] = {
    "computes": (settings.device,),
    "trains": OF_TRAINING,
    "supervised": OF_TEXTS,
    "prefers": OF_PREFERENCES,
    "generates": (*OF_A_BASE, *OF_GENERATION),
    "compares": (*OF_A_BASE, *OF_PARITY),
    "transfers": (parity.transfer,),
}
"""What a recipe owes for each thing that its config says of it."""

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
    recipe = claim.option("recipe")
    owed = (check for what, checks in OF_A_RECIPE.items() if recipe.get(what) for check in checks)
    return verdicts + _all((*dict.fromkeys(owed), *OF_THE_SPEC), evidence, claim)


def _all(checks: tuple[Check, ...], evidence: Evidence, claim: Claim) -> tuple[Verdict, ...]:
    found = (check(evidence, claim) for check in checks)
    return tuple(verdict for verdict in found if verdict is not None)
