"""The short form of a fault: one function that stands in for another."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from tests.tiny import tiny_configuration

from tunematrix.faults.catalogue import fault

CONFIG = tiny_configuration("nowhere.run", max_steps=7)


class Scale:
    """A library's class."""

    def times(self, value: float, factor: float = 2.0) -> Any:
        """Return the product."""
        return value * factor


@fault("loss", replaces=(Scale, "times"), seen_by=("lora[*]",))
def one_more(original: Any, scale: Scale, value: float, *more: float) -> Any:
    """Add one."""
    return original(scale, value, *more) + 1


@fault("loss", replaces=(Scale, "times"))
def told_all(original: Any, *args: Any, config: Any, call: int, **kwargs: Any) -> Any:
    """Say what it was given."""
    return original(*args, **kwargs), config.train.max_steps, call


def test_it_stands_in_and_the_original_comes_back() -> None:
    """Also where the cell ends with an error."""
    with one_more(CONFIG):
        assert Scale().times(3) == 7
        assert Scale().times(3, 4) == 13
    with pytest.raises(ZeroDivisionError), one_more(CONFIG):
        raise ZeroDivisionError
    assert Scale().times(3) == 6


def test_it_is_told_what_it_asks_for() -> None:
    """The configuration, and its calls, counted anew each time that it is entered."""
    for _ in range(2):
        with told_all(CONFIG):
            assert Scale().times(3) == (6, 7, 1)
            assert Scale().times(3, factor=5) == (15, 7, 2)


def test_libraries_see_the_signature_of_what_they_call() -> None:
    """Trainers pass only what a model's forward names."""
    with told_all(CONFIG):
        assert str(inspect.signature(Scale.times)) == "(*args: 'Any', **kwargs: 'Any') -> 'Any'"
    with one_more(CONFIG):
        assert list(inspect.signature(Scale.times).parameters) == ["scale", "value", "more"]


def test_it_is_a_fault_as_any_other() -> None:
    """With a name, a docstring, a class, where it is seen, and one argument."""
    assert (one_more.__name__, one_more.__module__) == ("one_more", __name__)
    assert inspect.getdoc(one_more) == "Add one."
    assert vars(one_more)["fault_class"] == "loss"
    assert vars(one_more)["seen_by"] == ("lora[*]",)
    assert list(inspect.signature(one_more).parameters) == ["config"]
