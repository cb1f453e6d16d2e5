"""A config of the step → its order: the model is found, and every question fits it."""

from __future__ import annotations

from transformers import AutoConfig, PretrainedConfig

from tunematrix.configuration.answers import ServeStep
from tunematrix.errors import WrongSetting
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.host import Host, ServeOrder
from tunematrix.stack.steps.serving.questions import Question, ids_of


def read_order(host: Host, settings: ServeStep, job: StepJob) -> ServeOrder:
    """Return what a config has served: the model, in which type and where, and all questions.

    Raises:
        WrongSetting: an entry of the config, or the folder that it names, can't be used.
        MachineProblem: the port is taken.
    """
    port = ports.chosen(settings.port)
    source = sources.find(settings.model.path, job.config, host.read)
    host.refuse(source, job)
    try:
        tokenizer = sources.tokenizer_of(source)
        base = AutoConfig.from_pretrained(
            source.base, local_files_only=True, trust_remote_code=False
        )
    except sources.UNREADABLE as error:
        raise sources.unreadable(settings.model.path, error) from None
    questions = [Question("completion", prompt) for prompt in settings.prompts]
    if tokenizer.chat_template is None:
        job.warn("its tokenizer has no chat template, so it isn't asked as a chat")
    else:
        questions += [Question("chat", prompt) for prompt in settings.prompts]
    for question in questions:
        _check_length(question, len(ids_of(tokenizer, question)), base, settings.max_tokens)
    if (wanted := settings.inference) is not None:
        prompt = Question("completion", wanted.prompt)
        _check_length(prompt, len(ids_of(tokenizer, prompt)), base, wanted.max_tokens)
    return ServeOrder(
        source, tokenizer, tuple(questions), _dtype(source, base, merged=host.merges), port
    )


def _dtype(source: sources.ModelSource, base: PretrainedConfig, *, merged: bool) -> str:
    """Return the type of the weights that are served; what is merged is saved in float32."""
    own = None if merged and source.adapter else getattr(base, "dtype", None)
    return "float32" if own is None else str(own).removeprefix("torch.")


def _check_length(question: Question, tokens: int, base: PretrainedConfig, max_tokens: int) -> None:
    shown = f"{question.prompt[:60]!r}"
    if not tokens:
        raise WrongSetting(("prompts",), f"{shown} comes to no token; give a prompt with words")
    longest = getattr(base, "max_position_embeddings", None)
    if longest is None or tokens + max_tokens <= longest:
        return
    asked = f"{shown} has {tokens} tokens as a {question.kind}"
    if tokens >= longest:
        text = f"{asked}, and the model has positions for {longest}; shorten it"
        raise WrongSetting(("prompts",), text)
    text = f"{asked}, and with {max_tokens} more it is beyond the model's {longest}"
    raise WrongSetting(("max_tokens",), f"{text}; at most {longest - tokens} are left")
