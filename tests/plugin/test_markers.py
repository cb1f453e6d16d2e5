"""What an expression of -m names, and what of that it asks for."""

from __future__ import annotations

import pytest

from tunematrix.plugin.markers import named_markers


@pytest.mark.parametrize(
    ("expression", "asked", "others"),
    [
        ("", "", ""),
        ("nightly", "nightly", ""),
        (" ( nightly ) ", "nightly", ""),
        ("smoke or nightly and probe", "smoke nightly probe", ""),
        ("not nightly", "", "nightly"),
        ("not  nightly", "", "nightly"),
        ("not (nightly)", "", "nightly"),
        ("not(smoke or nightly)", "", "smoke nightly"),
        ("not smoke or nightly", "nightly", "smoke"),
        ("smoke and not (slow or nightly)", "smoke", "slow nightly"),
        ("not (slow and not nightly)", "nightly", "slow"),
        ("not not nightly", "nightly", ""),
        ("nightly or not nightly", "nightly", ""),
        ("not nightly or nightly", "nightly", ""),
        ("not_nightly", "not_nightly", ""),
        ("nightly_build and not a.b", "nightly_build", "a.b"),
        ("two-gpus and not 3d", "two-gpus", "3d"),
        ("device(serial='not nightly', count=2) or x", "device x", ""),
        ("not device(count=2)", "", "device"),
    ],
)
def test_what_is_asked_for(expression: str, asked: str, others: str) -> None:
    """A marker that no `not` turns round."""
    found = named_markers(expression)
    assert {name for name, is_asked in found.items() if is_asked} == set(asked.split())
    assert {name for name, is_asked in found.items() if not is_asked} == set(others.split())


@pytest.mark.parametrize("expression", ["smoke or", "(smoke", "smoke nightly", "a ? b", "or"])
def test_what_cannot_be_read(expression: str) -> None:
    """It names nothing, and pytest refuses it."""
    assert named_markers(expression) == {}
