"""A trainer that is run as a command: what pyproject.toml says of it, and what a cell keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import NonEmpty, Section
from tunematrix.errors import did_you_mean

Value: TypeAlias = bool | int | float | str
"""What an argument of a trainer can be given."""
Words: TypeAlias = Annotated[tuple[str, ...], Strict(False)]
"""Arguments of a command, which may repeat."""
Change: TypeAlias = Literal["steps", "epochs", "rows", "checkpoint", "interval", "output"]
"""What an argument of debug mode may change."""

DYNAMIC = "{dynamic_args}"
"""The word of a template that the arguments of a spec take the place of."""
PYTHON = "{python}"
_NAME = re.compile(r"\{\{\w+\}\}|\{(\w+)\}")
_PLACES = frozenset({"python", "project_dir", "config", "output_dir", "seed"})
_SERVING = frozenset({"python", "project_dir", "output_dir", "checkpoint", "host", "port"})


def named(words: Iterable[str]) -> tuple[str, ...]:
    """Return the names in braces that some words hold, each once; `{{name}}` is no name."""
    found = (match[1] for word in words for match in _NAME.finditer(word) if match[1])
    return tuple(dict.fromkeys(found))


def filled(word: str, values: Mapping[str, str]) -> str:
    """Return a word with each `{name}` replaced by its value, and `{{name}}` by `{name}`.

    Raises:
        KeyError: there is no such value.
    """
    return _NAME.sub(lambda match: values[match[1]] if match[1] else match[0][1:-1], word)


def _argument(words: tuple[str, ...]) -> tuple[str, ...]:
    known = {"name", "dashed_name", "value"}
    for index, name in enumerate(named(words)):
        if name not in known:
            _refuse((index,), f"{{{name}}} is nothing it can hold; {did_you_mean(name, known)}")
    if not {"name", "dashed_name"} & set(named(words)) or "value" not in named(words):
        text = 'has no {name} or no {value}; write ["--{name}", "{value}"] or ["{name}={value}"]'
        _refuse((), text)
    return words


class DebugArgument(Section):
    """An argument that debug mode gives the trainer, because it can't alter what is tested."""

    value: Value = Field(description="What the argument is set to.")
    changes: Change = Field(
        description="What it may change: steps, epochs, rows (of the data set), checkpoint (a "
        "smaller one), interval (of logging, saving or evaluating) or output (folder).",
    )

    @model_validator(mode="after")
    def _does_no_more(self) -> Self:
        """Numbers of steps, epochs and rows are positive ones; nothing else reduces a run."""
        value = self.value
        is_positive = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if self.changes in ("steps", "epochs", "rows") and not is_positive:
            _refuse(("value",), f"is {self.value!r}; a number of {self.changes} is above 0")
        if self.changes in ("checkpoint", "output") and not isinstance(self.value, str):
            _refuse(("value",), f"is {self.value!r}; give the {self.changes} as text")
        return self


class Trainer(Section):
    """A trainer, as `[tool.tunematrix.trainers.NAME]` in pyproject.toml describes it."""

    templates: ClassVar[tuple[str, ...]] = ("command", "serve", "finalize")

    command: Annotated[Words, Field(min_length=1)] = Field(
        description="The command, a list of words; no shell reads it. `{python}`, `{project_dir}`, "
        "`{config}`, `{output_dir}` and `{seed}` are filled in; the word `{dynamic_args}` becomes "
        "the spec's arguments.",
    )
    argument: Annotated[Words, AfterValidator(_argument)] = Field(
        ("--{dashed_name}", "{value}"),
        description='How an argument is written: `["--{name}", "{value}"]` or, for Hydra, '
        '`["{name}={value}"]`. `{dashed_name}` has dashes in place of underscores. Where the value '
        "is a word of its own, true becomes the name alone, and false nothing.",
    )
    python: str = Field(
        "",
        description="The Python that `{python}` stands for, relative to pyproject.toml. Default: "
        "the environment's.",
    )
    environment: Mapping[str, str] = Field(
        {}, description="Variables that are set for it; their values are filled in, too."
    )
    working_directory: str = Field("{project_dir}", description="The folder that it is started in.")
    log: str = Field(
        "",
        description="Its log: the name of a log reader, a path or pattern below the output folder, "
        "or `stdout`. Default: the log there, or stdout, that has the most steps.",
    )
    launcher: str = Field(
        "single", description="The option of the axis launcher that its cells have by default."
    )
    launchers: Annotated[tuple[NonEmpty, ...], Strict(False)] = Field(
        (),
        description="The launchers that debug mode runs its first configuration with, one cell "
        "each. Default: `launcher` alone.",
    )
    debug: Mapping[str, DebugArgument] = Field(
        {}, description="The arguments of debug mode; a spec may give no others in that mode."
    )
    finalize: Words = Field(
        (),
        description="A command that prepares a checkpoint for serving; `{dynamic_args}` becomes "
        "the spec's `finalize`.",
    )
    serve: Words = Field(
        (),
        description="The command of a server with an OpenAI-compatible API, for specs with "
        "`inference`; `{checkpoint}`, `{host}` and `{port}` are filled in. Default: `transformers "
        "serve`.",
    )
    scorer: str = Field(
        "",
        description="The model that scores completions: a folder, relative to pyproject.toml, or a "
        "name on the Hub, such as gpt2. Default: the toy world's base model.",
    )

    @property
    def places(self) -> tuple[str, ...]:
        """The names that are filled in where it trains: in command, environment and folder."""
        return named((*self.command, *self.environment.values(), self.working_directory))

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> Self:
        for route, text in self._unknown_names():
            _refuse(route, text)
        if "output_dir" not in self.places:
            text = "has no {output_dir}, so its output would go anywhere; add it to the command"
            _refuse(("command",), text)
        return self

    def _unknown_names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield where a template holds a name that nothing is filled in for."""
        places: list[tuple[tuple[str | int, ...], str]] = [
            ((field, index), word)
            for field in self.templates
            for index, word in enumerate(getattr(self, field))
        ]
        places += [(("environment", key), value) for key, value in self.environment.items()]
        places.append((("working_directory",), self.working_directory))
        for route, word in places:
            takes_arguments = route[0] in ("command", "finalize")
            if word == DYNAMIC and takes_arguments:
                continue
            known = _SERVING if route[0] == "serve" else _PLACES
            for name in named([word]):
                if name == "dynamic_args" and takes_arguments:
                    yield route, f"{word} holds {DYNAMIC}, which is a word of its own"
                elif name not in known:
                    advice = did_you_mean(name, sorted(known))
                    yield route, f"{{{name}}} is nothing that is filled in; {advice}"


class Inference(Section):
    """A completion from a real server, scored by a reference model."""

    prompt: NonEmpty = Field("Once upon a time", description="Text to complete.")
    max_tokens: int = Field(50, gt=0, description="Largest number of tokens to generate.")
    temperature: float = Field(0.7, ge=0, description="Sampling temperature; 0 is greedy.")
    perplexity_max: float = Field(
        500.0, gt=0, description="Largest perplexity of prompt and completion that passes."
    )
    server_timeout: int = Field(60, gt=0, description="Seconds to wait for the server.")


class CommandSettings(Section):
    """What a cell of the recipe command runs; the executor fills its templates in."""

    trainer: str = Field(description="Name of the trainer.")
    template: Trainer = Field(description="What pyproject.toml says of it.")
    root: str = Field(description="The project's folder, absolute.")
    project_dir: str = Field(description="The folder that the trainer's project lies in, absolute.")
    config: str = Field("", description="The configuration that is passed to it.")
    inference: Inference | None = Field(
        None, description="The completion that its checkpoint is to give, if any."
    )
    finalize: Mapping[str, Value] | None = Field(
        None, description="Arguments of the command that prepares it for serving, if any."
    )


def _refuse(route: tuple[str | int, ...], text: str) -> None:
    raise PydanticCustomError("template", "{text}", {"text": text, "route": route})
