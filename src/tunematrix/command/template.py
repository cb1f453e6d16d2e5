"""A trainer's templates and a spec's arguments → the words of a command; no shell reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tunematrix.configuration.trainer import DYNAMIC, Value, filled

SEPARATE = "{value}"
"""The word of an argument's template that is nothing but its value."""


def words_of(
    template: Sequence[str],
    values: Mapping[str, str],
    argument: Sequence[str],
    arguments: Mapping[str, Value],
) -> tuple[str, ...]:
    """Return a command.

    Args:
        template: its words. values: what is filled in for each name.
        argument: how one argument is written. arguments: those that `{dynamic_args}` becomes.
    """
    words: list[str] = []
    for word in template:
        if word == DYNAMIC:
            words += dynamic_words(argument, arguments)
        else:
            words.append(filled(word, values))
    return tuple(words)


def dynamic_words(argument: Sequence[str], arguments: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the words of all arguments, in their order."""
    return tuple(word for pair in arguments.items() for word in _written(argument, *pair))


def shown_value(value: Value) -> str:
    """Return a value as a command line has it: true and false in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _written(argument: Sequence[str], name: str, value: Value) -> Iterator[str]:
    values = {
        "name": name,
        "dashed_name": name.replace("_", "-"),
        "value": shown_value(value),
    }
    is_flag = isinstance(value, bool) and SEPARATE in argument
    if is_flag and not value:
        return
    for word in argument:
        if not (is_flag and word == SEPARATE):
            yield filled(word, values)
