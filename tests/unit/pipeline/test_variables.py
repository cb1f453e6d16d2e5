"""Variables of configs: what is filled in, and what stays as it was written."""

from __future__ import annotations

import pytest

from tunematrix.configuration.variables import filled, kept, variables_in


def test_what_is_a_variable() -> None:
    """Neither doubled braces nor the environment's."""
    assert [*variables_in("{a}/{{b}}/${C}/{d_1}/{ e }")] == ["a", "d_1"]
    written = {"path": "{a}/x", "list": ["{{b}}", 3], "none": None}
    assert filled(written, {"a": "/data"}) == {"path": "/data/x", "list": ["{b}", 3], "none": None}
    with pytest.raises(KeyError, match="a"):
        filled("{a}", {})


@pytest.mark.parametrize(
    "text", ["{x}", "a {x} and {{y}}", "${HOME}/{x}", "{}", "{ x }", "{{", "}{x}{", "plain"]
)
def test_what_is_kept_survives(text: str) -> None:
    """Such as braces in a prompt."""
    assert filled(kept({"prompts": (text,)}), {})["prompts"] == [text]
