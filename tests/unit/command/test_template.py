"""Templates and arguments → words; no shell, no quoting."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tunematrix.command.template import dynamic_words, words_of

ARGUMENTS: Mapping[str, bool | int | float | str] = {
    "max_steps": 20,
    "verbose": True,
    "resume": False,
    "rate": 1e-05,
    "name": "a b;$(c)",
}
STYLES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("--{dashed_name}", "{value}"): (
        "--max-steps", "20", "--verbose", "--rate", "1e-05", "--name", "a b;$(c)",
    ),
    ("--{name}", "{value}"): (
        "--max_steps", "20", "--verbose", "--rate", "1e-05", "--name", "a b;$(c)",
    ),
    ("{name}={value}",): (
        "max_steps=20", "verbose=true", "resume=false", "rate=1e-05", "name=a b;$(c)",
    ),
    ("--set", "{name}={value}"): (
        "--set", "max_steps=20", "--set", "verbose=true", "--set", "resume=false",
        "--set", "rate=1e-05", "--set", "name=a b;$(c)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_arguments_are_written_as_the_trainer_wants_them(style: tuple[str, ...]) -> None:
    """True is a bare flag and false nothing, where the value is a word of its own."""
    assert dynamic_words(style, ARGUMENTS) == STYLES[style]


def test_dynamic_args_stand_where_the_template_has_them() -> None:
    """Words with braces that mean themselves are doubled."""
    template = ["run", "{dynamic_args}", "--out={output_dir}/x", "{{name}}", "{a: 1}"]
    words = words_of(template, {"output_dir": "/o"}, ("{name}={value}",), {"b": 2})
    assert words == ("run", "b=2", "--out=/o/x", "{name}", "{a: 1}")
