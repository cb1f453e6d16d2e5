"""What is written down of the steps of a pipeline; `name` is the step's: sft, dpo, …"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepBegun:
    """A step has read what it is given, and begins.

    Attributes:
        model: folder that it was given; base: folder of the base model below it.
        adapter: folder of the adapter that it begins with; empty for none.
        output_dir: folder that it writes to.
        does: what it is about to do, in a sentence for people.
    """

    name: str
    model: str
    base: str
    adapter: str
    output_dir: str
    does: str


@dataclass(frozen=True)
class StepWarning:
    """Something that a user should know, and that is no error."""

    name: str
    text: str


@dataclass(frozen=True)
class StepProblem:
    """An entry of its config can't be used; `route` leads to it, `text` says why."""

    name: str
    route: tuple[str | int, ...]
    text: str


@dataclass(frozen=True)
class StepProgress:
    """So much of it is done.

    Attributes:
        done, total: in units of `what`, such as steps or prompts.
        loss: of a training step, nats per token or per pair; None for others.
        learning_rate: of that step; None for others.
    """

    name: str
    what: str
    done: int
    total: int
    loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class StepStarted:
    """An adapter that a step trains on, held to the file that it was loaded from.

    Attributes:
        tensors: in the file; differing: of them, those that the loaded one hasn't, bit by bit.
    """

    name: str
    tensors: int
    differing: int


@dataclass(frozen=True)
class StepMerged:
    """An adapter was merged into its base before training.

    Attributes:
        base, adapted, merged: scores, as `before` in `StepTrained`, of the base alone, of the
            adapter over it, and of what was merged and saved, loaded again.
    """

    name: str
    base: float
    adapted: float
    merged: float


@dataclass(frozen=True)
class StepTrained:
    """What training came to, compared on tensors and on scores.

    Attributes:
        steps: optimizer steps at the end; resumed_at: of them, those that were there before.
        moved: trained tensors whose bits differ from those it began with; tensors: all of them.
        measure: what `before` and `after` are, over rows of its own data: "loss", mean nats per
            token; "preference", mean probability of the chosen answer of the two.
        before, after: of the model as it began, and at the end.
        logged: losses as the trainer logged them, one for each step since `resumed_at`; those of
            the checkpoint where no step was left.
    """

    name: str
    steps: int
    resumed_at: int
    moved: int
    tensors: int
    measure: str
    before: float
    after: float
    logged: tuple[float, ...]


@dataclass(frozen=True)
class StepSaved:
    """What a training step has saved, loaded again.

    Attributes:
        score: as `after` in `StepTrained`.
        differing: trained tensors that the loaded ones aren't, bit by bit; None where a library
            may load them in another dtype, so that they aren't compared.
    """

    name: str
    score: float
    differing: int | None = None


@dataclass(frozen=True)
class StepTogether:
    """Likeliest answers to prompts that were asked side by side, and alone.

    Attributes:
        batch: prompts in the largest batch.
        gaps: one for each prompt that was asked in both ways: 0 where the tokens are the same;
            where they part, how much more the model's logits, by whole passes, give the one token
            than the other, as a share of what lies between the largest logit and the middle one.
    """

    name: str
    batch: int
    gaps: tuple[float, ...]


@dataclass(frozen=True)
class StepCache:
    """Likeliest answers that the library wrote with its cache, beside whole passes over them.

    Attributes:
        regrets: of each answer, the largest of its tokens: how much more the logits of the whole
            pass give the likeliest token than the one that was taken, in the same unit.
        logits: of each answer, the largest difference of the logits of both ways, likewise.
    """

    name: str
    regrets: tuple[float, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True)
class StepAdapter:
    """Prompts asked with an adapter, without it, and of the base before it was attached.

    Attributes:
        prompts: asked in all ways; answers: of them, those that it answers otherwise.
        changed: largest absolute logit difference that the adapter makes.
        left: largest absolute logit difference to the base once the adapter is switched off.
    """

    name: str
    prompts: int
    answers: int
    changed: float
    left: float


@dataclass(frozen=True)
class StepGrammar:
    """Answers of a model of the toy world, judged by its grammar.

    Attributes:
        texts: answers whose prompts begin stories; following: of them, those that go on as a
            story of the same dialect, to its end or to where they were cut off.
    """

    name: str
    texts: int
    following: int


@dataclass(frozen=True)
class Served:
    """A server was ready to be asked.

    Attributes:
        url: of its API; model: the name that it knows the model by: its folder, or, for
            mlx_lm.server, default_model.
        merged: whether that is an adapter merged into its base.
        ready_seconds: from its start until it was ready.
    """

    name: str
    url: str
    model: str
    merged: bool
    ready_seconds: float


@dataclass(frozen=True)
class ServedAnswer:
    """What a server answered to one prompt, always by the likeliest token, and what is right.

    Attributes:
        asked: completion or chat.
        local: answer of the model that the step was given, in the step's own process;
            local_tokens: its length in tokens.
        sure: characters of `local` before the first token that another one comes so close to that
            rounding decides; None where there is no such token.
        served: answer of the server; served_tokens: its length in tokens, as the server says.
        streamed: the answer put together from the pieces of a stream.
        together: answers to the same prompt asked at the same time as others.
    """

    name: str
    asked: str
    prompt: str
    local: str
    local_tokens: int
    sure: int | None
    served: str
    served_tokens: int
    streamed: str
    together: tuple[str, ...]


@dataclass(frozen=True)
class ServerEnded:
    """How a server ended that was told to.

    Attributes:
        code: its exit code; below 0, the signal that ended it.
        killed: whether it didn't end in time; seconds: what it took.
        left: command lines of what it had started and what outlived it.
        port_free: whether its port could be listened at again.
    """

    name: str
    code: int
    killed: bool
    seconds: float
    left: tuple[str, ...]
    port_free: bool


@dataclass(frozen=True)
class StepScored:
    """Prompts with their answers, judged by a reference model.

    Attributes:
        scorer: folder of that model.
        perplexities: of each text; nan where it has fewer than two tokens.
        blank: answers without a letter.
        perplexity_max: that its user allows.
    """

    name: str
    scorer: str
    perplexities: tuple[float, ...]
    blank: int
    perplexity_max: float


@dataclass(frozen=True)
class StepDone:
    """A step has ended well; `says` is the line that its user reads."""

    name: str
    seconds: float
    says: str
