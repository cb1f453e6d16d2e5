"""Few combinations in which any two options meet: against all combinations, gone through."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunematrix.matrix.covering import Apart, cover
from tunematrix.spec.matrix import Strategy

PAIRS, TRIPLES = Strategy.parse("pairs"), Strategy.parse("triples")


def allowed(sizes: Mapping[str, int], apart: Sequence[Apart]) -> list[dict[str, int]]:
    """Return every combination that nothing keeps apart."""
    rows = (
        dict(zip(sizes, row, strict=True)) for row in itertools.product(*map(range, sizes.values()))
    )
    return [row for row in rows if not any(one.holds(row) for one in apart)]


def met(rows: Sequence[Mapping[str, int]], strength: int) -> set[tuple[tuple[str, int], ...]]:
    """Return the options that stand together in some row."""
    return {group for row in rows for group in itertools.combinations(row.items(), strength)}


@st.composite
def matrices(draw: st.DrawFn) -> tuple[dict[str, int], list[Apart]]:
    """Draw axes of some options each, and what never stands together."""
    count = draw(st.integers(3, 5))
    sizes = {f"a{index}": draw(st.integers(1, 3)) for index in range(count)}
    apart = []
    for _ in range(draw(st.integers(0, 9))):
        axes = draw(st.lists(st.sampled_from(list(sizes)), min_size=1, max_size=3, unique=True))
        options = {
            axis: frozenset(draw(st.sets(st.integers(0, sizes[axis] - 1), min_size=1)))
            for axis in axes
        }
        apart.append(Apart(options, "-".join(axes)))
    return sizes, apart


@settings(max_examples=80, deadline=None)
@given(matrices(), st.sampled_from([PAIRS, TRIPLES]))
def test_all_that_can_meet_does(matrix: tuple[dict[str, int], list[Apart]], how: Strategy) -> None:
    """Exactly what stands together in some allowed combination does; nothing else is in a row."""
    sizes, apart = matrix
    found = cover(sizes, apart, how)
    rows = [dict(zip(sizes, row, strict=True)) for row in found.rows]
    possible = allowed(sizes, apart)
    assert all(row in possible for row in rows)
    strength = min(how.strength or 0, len(sizes))
    assert met(rows, strength) == met(possible, strength)
    assert found.covered == len(met(rows, strength))
    assert len(found.lost) + found.covered == found.total


@pytest.mark.parametrize(("how", "most"), [(PAIRS, 18), (TRIPLES, 70)])
def test_few_rows(how: Strategy, most: int) -> None:
    """Six axes of three options have 729 combinations; pairs need 9 rows at least, triples 27."""
    found = cover({f"a{index}": 3 for index in range(6)}, [], how)
    assert found.possible == 729
    assert len(found.rows) <= most
    assert not found.lost


def test_a_seed_gives_the_same_rows_and_another_seed_others() -> None:
    """The same matrix has the same rows each time."""
    sizes = {f"a{index}": 4 for index in range(5)}
    first, again = cover(sizes, [], PAIRS), cover(sizes, [], PAIRS)
    other = cover(sizes, [], Strategy.parse("pairs@7"))
    assert first == again
    assert set(first.rows) != set(other.rows)


@pytest.mark.parametrize("axis", ["a0", "a3", "a5"])
def test_an_option_more_leaves_all_rows(axis: str) -> None:
    """Cells keep their names when an option is added to an axis, so that their history goes on."""
    sizes = {f"a{index}": 4 for index in range(6)}
    before, after = cover(sizes, [], PAIRS), cover({**sizes, axis: 5}, [], PAIRS)
    assert set(before.rows) < set(after.rows)


def test_something_unsupported_more_leaves_most_rows() -> None:
    """Of a large matrix, most cells stay when two options turn out not to work together."""
    sizes = {f"a{index}": 6 for index in range(10)}
    one = Apart({"a0": frozenset([0]), "a1": frozenset([0])}, "crashes")
    before, after = cover(sizes, [], PAIRS), cover(sizes, [one], PAIRS)
    assert len(set(before.rows) & set(after.rows)) > 0.8 * len(before.rows)


def test_why_options_cannot_meet() -> None:
    """What is declared has its own reason; what only follows from that says so."""
    sizes = {"a": 2, "b": 2, "c": 2}
    apart = [
        Apart({"a": frozenset([0]), "b": frozenset([0])}, "no gradient"),
        Apart({"a": frozenset([1]), "c": frozenset([0])}, "crashes"),
        Apart({"a": frozenset([0]), "c": frozenset([1])}, "hangs"),
    ]
    reasons = {one.together: one.reason for one in cover(sizes, apart, PAIRS).lost}
    assert reasons[("a", 0), ("b", 0)] == "no gradient"
    assert reasons[("a", 1), ("c", 0)] == "crashes"
    # b 0 stands with a 1 alone, and a 1 with c 1 alone.
    assert reasons[("b", 0), ("c", 0)].startswith("with each option of another axis")


def test_what_forbids_everything() -> None:
    """Something that isn't varied and never works leaves nothing."""
    found = cover({"a": 2, "b": 3}, [Apart({}, "not here")], PAIRS)
    assert found.rows == ()
    assert {one.reason for one in found.lost} == {"not here"}
