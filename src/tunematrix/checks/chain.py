"""What each training step of a pipeline must come to, from what it was given to what it saved."""

from __future__ import annotations

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import StepMerged, StepSaved, StepStarted, StepTrained
from tunematrix.evidence.evidence import Evidence

SHARE_OF_CHANGE = 0.05
"""Of what training changed in a score, that saving and loading may change."""
ROUNDING = 1e-5
"""Of a score, that another order of the same sums may change."""


@check(
    name="step_started",
    group="pipeline",
    reads=(StepStarted,),
    unit="tensors",
    bug="a step that begins with the base model, or with a new adapter, in place of the one named",
)
def step_started(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A step that trains an adapter on begins with the one that lies on disk.

    Reads the tensors of the adapter as the step begins, and those in the file that it was given.
    Fails when one of them differs in a bit, or isn't there. Not judged where a step makes a new
    adapter.
    """
    started = evidence.all(StepStarted)
    if not started:
        return None
    wrong = [one for one in started if one.differing]
    named = ", ".join(f"{one.name}: {one.differing} of {one.tensors}" for one in wrong)
    message = (
        f"as the step began, tensors of its adapter weren't those of the file ({named}); likely "
        "the adapter wasn't loaded, or another one was put in its place"
    )
    return judge_by(Exactly(0), sum(one.differing for one in started), message)


@check(
    name="step_merged",
    group="pipeline",
    reads=(StepMerged,),
    unit="probability",
    bug="an adapter that is merged twice, or not at all, or with another scale",
)
def step_merged(evidence: Evidence, claim: Claim) -> Judgement | None:
    """An adapter that a step merges into its base scores as it did over it.

    Reads the probability of the chosen answer, of the two, by the base alone, by the adapter over
    it, and by what was merged and saved, loaded again. Fails when the last two differ by more than
    5 % of what the adapter changes, and more than rounding.
    """
    merged = evidence.one(StepMerged)
    if merged is None:
        return None
    limit = SHARE_OF_CHANGE * abs(merged.adapted - merged.base) + ROUNDING
    message = (
        f"{merged.name}: {merged.adapted:.6g} with the adapter, {merged.merged:.6g} once merged "
        f"({merged.base:.6g} by the base alone); likely it wasn't merged, or more than once"
    )
    return judge_by(AtMost(limit), abs(merged.merged - merged.adapted), message)


@check(
    name="step_changed",
    group="pipeline",
    reads=(StepTrained,),
    unit="tensors",
    bug="a frozen adapter, an optimizer without its parameters, a learning rate of 0",
)
def step_changed(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each training step of a pipeline changes what it trains.

    Reads sums over the bits of every trained tensor, before and after. Fails when a step changed
    none.
    """
    wanted = _training_steps(claim)
    if not wanted:
        return None
    trained = {one.name: one for one in evidence.all(StepTrained)}
    if lacking := [name for name in wanted if name not in trained]:
        return missing(f"what {lacking[0]} has trained")
    least = min(trained.values(), key=lambda one: one.moved)
    message = (
        f"{least.name} changed {least.moved} of its {least.tensors} trained tensors; likely the "
        "learning rate was 0, or no gradient reached them"
    )
    return judge_by(AtLeast(1), least.moved, message)


@check(
    name="step_saved",
    group="pipeline",
    reads=(StepSaved, StepTrained),
    unit="score",
    bug=(
        "a model that is saved as it was before training, under names that nobody loads, or "
        "quantized twice"
    ),
)
def step_saved(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What a training step has saved scores as the trained model did.

    Reads the score of the trained model on rows of its own data (nats per token, or the probability
    of the chosen answer), and that of what was saved, loaded from files alone. Fails when they
    differ by more than 5 % of what training changed, and more than rounding. With mlx-lm, which
    loads what there is and leaves out the rest, it also fails when a trained tensor isn't among the
    loaded ones, bit by bit.
    """
    wanted = _training_steps(claim)
    if not wanted:
        return None
    trained = {one.name: one for one in evidence.all(StepTrained)}
    saved = {one.name: one for one in evidence.all(StepSaved)}
    if lacking := [name for name in wanted if name not in saved or name not in trained]:
        return missing(f"what {lacking[0]} has saved")
    lost = max((saved[name].differing or 0, name) for name in wanted)
    if lost[0]:
        share = f"{lost[0]} of {trained[lost[1]].tensors} trained tensors"
        message = (
            f"{lost[1]}: {share} aren't among those that were loaded again; likely they weren't "
            "saved, or under names that nobody loads"
        )
        return judge_by(Exactly(0), lost[0], message, unit="tensors")
    worst, name, limit = max(
        (
            abs(saved[name].score - trained[name].after) - _limit(trained[name]),
            name,
            _limit(trained[name]),
        )
        for name in wanted
    )
    one = trained[name]
    message = (
        f"{name}: the trained model scored {one.after:.6g} ({one.measure}; {one.before:.6g} before "
        f"training), what was saved scores {saved[name].score:.6g}; likely it wasn't saved whole, "
        "or is loaded otherwise than it was trained"
    )
    return judge_by(AtMost(limit), worst + limit, message)


@check(
    name="step_loss",
    group="pipeline",
    reads=(StepTrained,),
    unit="nats",
    bound_in="steps.sft.expect.loss_max",
    bug="labels that are shifted or masked, a learning rate that is too low or too high",
)
def step_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Fine-tuning in a pipeline comes to the loss that its step expects.

    Reads the last logged loss. Fails when it is above `expect.loss_max` of the step sft.
    """
    steps = claim.config.steps
    limit = None if steps is None or steps.sft is None else steps.sft.expect.loss_max
    if limit is None:
        return None
    found = [one for one in evidence.all(StepTrained) if one.name == "sft"]
    if not found or not found[0].logged:
        return missing("a logged loss of sft")
    message = "fine-tuning ended with a higher loss; train longer, or with another learning rate"
    return judge_by(AtMost(limit), found[0].logged[-1], message)


@check(
    name="step_preference",
    group="pipeline",
    reads=(StepTrained,),
    unit="probability",
    bound_in="steps.dpo.expect.preference_min",
    bug="chosen and rejected answers that are swapped, a reference that is trained as well",
)
def step_preference(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Aligning in a pipeline comes to the preference that its step expects.

    Reads the mean probability of the chosen answer, of the two, after the step dpo. Fails when it
    is below `expect.preference_min`.
    """
    steps = claim.config.steps
    limit = None if steps is None or steps.dpo is None else steps.dpo.expect.preference_min
    if limit is None:
        return None
    found = [one for one in evidence.all(StepTrained) if one.name == "dpo"]
    if not found:
        return missing("what dpo has trained")
    one = found[0]
    message = (
        f"it went from {one.before:.4g} to {one.after:.4g}; likely the answers are swapped, or the "
        "steps or the learning rate are too few or too low"
    )
    return judge_by(AtLeast(limit), one.after, message)


def _training_steps(claim: Claim) -> tuple[str, ...]:
    """Return the steps of a claim that train."""
    steps = claim.config.steps
    if steps is None or steps.dry_run:
        return ()
    both = (("sft", steps.sft), ("dpo", steps.dpo))
    return tuple(name for name, settings in both if settings is not None)


def _limit(trained: StepTrained) -> float:
    change = abs(trained.after - trained.before)
    return SHARE_OF_CHANGE * change + ROUNDING * max(1.0, abs(trained.after))
