from __future__ import annotations

import json
import math

import pytest

from tunematrix.checks.bound import (
    Around,
    AtLeast,
    AtMost,
    Between,
    Bound,
    Exactly,
    Measured,
    Near,
    Recorded,
    between,
    bound_from_json,
)

EACH: dict[str, Bound] = {
    "<= 0.1": AtMost(0.1),
    ">= 3": AtLeast(3),
    "0.85 to 1": Between(0.85, 1.0),
    "0 within 1.85": Around(0.0, 1.85),
    "0.5 within 2%": Near(0.5, 0.02),
    "13.83 within 0.01%": Near(13.83, 1e-4),
    "1234567": Exactly(1_234_567),
    "0.5": Exactly(0.5),
    "cpu": Exactly("cpu"),
    "a record of 1995": Recorded("a record of 1995"),
    "4.394 within 1%, the worst of 12 layers": Near(4.394, 0.01, note="the worst of 12 layers"),
}


@pytest.mark.parametrize("text", EACH)
def test_in_words(text: str) -> None:
    """As a reader knows them; the note stands behind."""
    assert str(EACH[text]) == text


@pytest.mark.parametrize("text", EACH)
def test_there_and_back_again(text: str) -> None:
    """Through JSON, each as what it was."""
    data = json.loads(json.dumps(EACH[text].to_json(), allow_nan=False))
    assert bound_from_json(data) == EACH[text]


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_limits_that_json_lacks(figure: float) -> None:
    """Training that diverged makes limits that aren't finite."""
    data = json.loads(json.dumps(AtMost(figure).to_json(), allow_nan=False))
    assert repr(bound_from_json(data)) == repr(AtMost(figure))
    assert bound_from_json(Exactly("inf").to_json()) == Exactly("inf")


def test_no_bound() -> None:
    """None is none, a text is an old record's, anything else is refused."""
    assert bound_from_json(None) is None
    assert bound_from_json("<= 1") == Recorded("<= 1")
    with pytest.raises(ValueError, match="no bound of kind at_best"):
        bound_from_json({"kind": "at_best", "limit": 1})
    with pytest.raises(TypeError):
        bound_from_json({"kind": "at_most", "most": 1})


@pytest.mark.parametrize(
    ("measured", "low", "high", "holds"),
    [
        (1.0, 1.0, 2.0, True),
        (2.0, 1.0, 2.0, True),
        (math.nextafter(1.0, 0.0), 1.0, 2.0, False),
        (math.nextafter(2.0, 3.0), 1.0, 2.0, False),
        (-9e9, None, 2.0, True),
        (9e9, 1.0, None, True),
        (0.0, 0.0, 0.0, True),
        (0.1, 0.0, 0.0, False),
        (-0.1, 0.0, 0.0, False),
    ],
)
def test_between(measured: float, low: float | None, high: float | None, holds: bool) -> None:
    """Ends belong to what passes; one may be absent, and isn't shown as infinite then."""
    bound = between(low, high)
    assert bound.holds(measured) is holds
    assert "inf" not in str(bound)


@pytest.mark.parametrize(
    ("bound", "inside", "outside"),
    [
        (Around(0.0, 0.5), (-0.5, 0.0, 0.5), (-0.51, 0.51)),
        (Near(2.0, 0.5), (1.0, 3.0), (0.99, 3.01)),
        (Near(-2.0, 0.5), (-1.0, -3.0), (2.0,)),
        (Near(0.0, 0.5), (), (0.0, 1.0)),
        (Exactly(3), (3, 3.0), (2, "3", None)),
        (Exactly("cpu"), ("cpu",), ("cuda", 0)),
        (Recorded("<= 1"), (), (0.0, "<= 1")),
        (AtMost(1.0), (1, True), ("0.5", None)),
    ],
)
def test_what_holds(
    bound: Bound, inside: tuple[Measured, ...], outside: tuple[Measured, ...]
) -> None:
    """Figures by figures, texts by texts."""
    assert [bound.holds(measured) for measured in inside] == [True] * len(inside)
    assert [bound.holds(measured) for measured in outside] == [False] * len(outside)


@pytest.mark.parametrize("text", EACH)
@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf, None])
def test_nan_and_infinity_never_hold(text: str, measured: float | None) -> None:
    """Not even where nothing excludes them."""
    assert not EACH[text].holds(measured)
    assert not AtMost(math.inf).holds(measured)
    assert not Around(math.nan, math.inf).holds(measured)


@pytest.mark.parametrize(
    ("measured", "bound", "slack"),
    [
        (0.25, AtMost(1), 0.75),
        (3e-9, AtMost(2e-9, note="in each of 40 steps"), -0.5),
        (1.5, AtLeast(1), 1 / 3),
        (0.06, AtLeast(1e-4), 1 - 1 / 600),
        (0.5, AtLeast(1), -0.5),
        (0.93, Between(0.91, 1.0), 0.02 / 0.045),
        (0.0, Between(0.0, 1e-6, note="for norm, the worst of 21 tensors"), 1.0),
        (13.83001, Near(13.83, 1e-4), 1 - 1e-5 / 1.383e-3),
        (8.04, Near(8.0, 0.01, note="the worst of 14 layers"), 0.5),
        (1.0005, Around(1.0, 0.001), 0.5),
    ],
)
def test_slack(measured: float, bound: Bound, slack: float) -> None:
    """A share of the bound, or of half a range."""
    assert bound.slack(measured) == pytest.approx(slack)


@pytest.mark.parametrize(
    ("measured", "bound"),
    [
        (None, AtMost(1)),
        ("cpu", Exactly("cpu")),
        (math.nan, AtMost(1)),
        (1.0, Exactly(14)),
        (0.0, AtMost(0)),
        (1.0, AtLeast(0)),
        (1.0, Between(1.0, 1.0)),
        (1.0, Around(1.0, 0.0)),
        (0.0, Near(0.0, 0.1)),
        (2, AtLeast(2)),
        (0.5, Recorded("<= 1")),
        (0.5, AtMost(math.inf)),
    ],
)
def test_no_slack(measured: Measured, bound: Bound) -> None:
    """No figure, or a bound without room, or a count, or an old record's text."""
    assert bound.slack(measured) is None
