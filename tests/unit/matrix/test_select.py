from __future__ import annotations

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.select import AxisSelector, Selection, parse_selection
from tunematrix.spec import Spec


def cell(**axes: str) -> Cell:
    """Return a cell with these options."""
    return Cell("a[cpu]", Spec(test_id="a", recipe="sft"), axes, {})


def test_nothing_selects_everything() -> None:
    """Without expressions every cell is wanted."""
    assert Selection()(cell(method="lora"))


def test_selection_is_exact() -> None:
    """lora doesn't select custom-lora, as a substring would."""
    select = AxisSelector("method", ("lora",))
    assert select(cell(method="lora"))
    assert not select(cell(method="custom-lora"))


def test_comma_is_or_and_repetition_is_and(shipped: Groups) -> None:
    """Options of one expression are alternatives; several expressions must all hold."""
    select = parse_selection(["method=lora, dora", "quantizer=none"], shipped)
    assert select(cell(method="dora", quantizer="none"))
    assert not select(cell(method="full", quantizer="none"))
    assert not select(cell(method="lora", quantizer="bnb-nf4"))


def test_selections_are_values(shipped: Groups) -> None:
    """The same expressions make equal selections."""
    one, two = (parse_selection(["method=lora"], shipped) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("method", "--axis method: is not AXIS=OPTION; write --axis method=lora"),
        ("methd=lora", "--axis methd=lora: methd is not an axis; did you mean method?"),
        ("method=loar", "--axis method=loar: loar is not an option of method; did you mean lora"),
        ("method=", "--axis method=: an empty text is not an option of method; it can be"),
        ("method=lora,", "--axis method=lora,: an empty text is not an option of method"),
        ("method=a=b", "--axis method=a=b: a=b is not an option of method"),
    ],
)
def test_wrong_expressions(shipped: Groups, expression: str, expected: str) -> None:
    """An unknown name is refused with close matches instead of selecting nothing."""
    with pytest.raises(BadInput) as caught:
        parse_selection([expression], shipped)
    assert str(caught.value).startswith(expected)


def test_all_wrong_expressions_at_once(shipped: Groups) -> None:
    """Every mistake is told in one go."""
    with pytest.raises(BadInput) as caught:
        parse_selection(["methd=lora", "method=x,y"], shipped)
    assert len(str(caught.value).splitlines()) == 3
