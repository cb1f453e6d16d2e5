"""`--axis method=lora,dora` → a frozen callable that says whether a cell is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunematrix.errors import BadInput, called, did_you_mean
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Groups


@dataclass(frozen=True)
class AxisSelector:
    """Selects the cells that have one of some options on an axis.

    Attributes:
        axis: the axis.
        options: any of them will do.
    """

    axis: str
    options: tuple[str, ...]

    def __call__(self, cell: Cell) -> bool:
        """Return whether the cell is wanted."""
        return cell.axes[self.axis] in self.options


@dataclass(frozen=True)
class Selection:
    """Selects the cells that all selectors select; with none, every cell.

    Attributes:
        selectors: one for each expression.
    """

    selectors: tuple[AxisSelector, ...] = ()

    def __call__(self, cell: Cell) -> bool:
        """Return whether the cell is wanted."""
        return all(selector(cell) for selector in self.selectors)


EVERYTHING = Selection()


def parse_selection(expressions: Iterable[str], groups: Groups) -> Selection:
    """Read `axis=option` expressions; a comma means or, several expressions mean and.

    Raises:
        BadInput: an axis or an option doesn't exist; the text lists all of them.
    """
    given = tuple(expressions)
    problems = [text for expression in given for text in _problems(expression, groups)]
    if problems:
        raise BadInput("\n".join(problems))
    pairs = (expression.partition("=") for expression in given)
    return Selection(tuple(AxisSelector(axis, _split(options)) for axis, _, options in pairs))


def _split(options: str) -> tuple[str, ...]:
    return tuple(option.strip() for option in options.split(","))


def _problems(expression: str, groups: Groups) -> Iterator[str]:
    axis, equals, options = expression.partition("=")
    if not equals:
        yield f"--axis {expression}: is not AXIS=OPTION; write --axis method=lora"
    elif axis not in groups.axes:
        yield f"--axis {expression}: {axis} is not an axis; {did_you_mean(axis, groups.axes)}"
    else:
        known = groups.axes[axis]
        for option in _split(options):
            if option not in known:
                advice = did_you_mean(option, known)
                yield f"--axis {expression}: {called(option)} is not an option of {axis}; {advice}"
