"""What `-m` asks for, read from its syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

# What pytest reads as one name: `two-gpus`, `3d` and `a.b` are markers, too.
_NAME = re.compile(r"[\w:+.\[\]\\/-]+")
_OPERATORS = frozenset({"and", "or", "not"})


def named_markers(expression: str) -> Mapping[str, bool]:
    """Return the markers that an expression of `-m` names; to each, whether it is asked for.

    `smoke and not slow` asks for smoke, not for slow; `not (a and not b)` asks for b. One that is
    named both ways is asked for. An expression that can't be read names none: pytest says itself
    what is wrong with it.
    """
    names: list[str] = []

    def stand_in(word: re.Match[str]) -> str:
        if word[0] in _OPERATORS:
            return word[0]
        names.append(word[0])
        return f"_{len(names) - 1}"

    try:
        tree = ast.parse(_NAME.sub(stand_in, expression).strip(), mode="eval")
    except SyntaxError:
        return {}
    found: dict[str, bool] = {}
    for node, is_asked in _names(tree.body, True):
        name = names[int(node.id[1:])]
        found[name] = found.get(name, False) or is_asked
    return found


def _names(node: ast.expr, is_asked: bool) -> Iterator[tuple[ast.Name, bool]]:
    """Yield the names below a node; each `not` on the way turns round what is asked."""
    match node:
        case ast.Name():
            yield node, is_asked
        case ast.Call(func=marker):  # whose arguments are no markers
            yield from _names(marker, is_asked)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _names(operand, not is_asked)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _names(value, is_asked)
