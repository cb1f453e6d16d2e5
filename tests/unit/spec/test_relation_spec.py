from __future__ import annotations

from collections.abc import Callable

import pytest

from tunematrix.spec import Spec
from tunematrix.spec.relation import STAGES

Load = Callable[[str], Spec]
ProblemsOf = Callable[[str], list[str]]

HEAD = "test_id: a\nrecipe: sft\nrelation:\n"
ARMS = "  arms:\n    1x8: {train.batch_size: 8}\n    8x1: {train.batch_size: 1}\n"
SAME = "  compare: [gradients]\n"


def test_a_relation(load: Load) -> None:
    """The least that one says: arms in their order, and what must agree."""
    relation = load(HEAD + ARMS + SAME).relation
    assert relation is not None
    assert list(relation.arms) == ["1x8", "8x1"]
    assert relation.compare == ("gradients",)
    assert relation.varied == {"train.batch_size"}
    assert (relation.ratio, relation.tolerance, relation.planted) == ({}, {}, ())


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_compared(load: Load, stage: str) -> None:
    """All that cells keep logits of are known by their names."""
    text = f"  arms: {{x: {{}}, y: {{logits: {stage}}}}}\n  compare: [logits]\n"
    relation = load(HEAD + text).relation
    assert relation is not None
    assert relation.stage_of("y") == stage


def test_stages_are_no_overrides(load: Load) -> None:
    """Which logits an arm brings doesn't decide what it runs."""
    text = "  arms: {x: {method: lora}, y: {method: lora, logits: merged}}\n  compare: [logits]\n"
    relation = load(HEAD + text).relation
    assert relation is not None
    assert relation.overrides_of("y") == relation.overrides_of("x") == {"method": "lora"}
    assert (relation.stage_of("x"), relation.stage_of("y")) == ("trained", "merged")
    assert relation.varied == {"method"}


PLANTED = "  planted: [{arm: 8x1, fault: 'faults:one'}, {arm: %s, fault: '%s'}]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "  arms: {x: {}}\n" + SAME,
            "4: relation.arms: expected 2 or more entries, got a section; add one or remove the",
        ),
        (SAME, "3: relation.arms: is missing; add it"),
        (ARMS, "3: relation.compare: compares nothing; give compare or ratio"),
        (ARMS + "  compare: []\n", "7: relation.compare: compares nothing; give compare or ratio"),
        (
            ARMS + "  compare: [gradients, updats]\n",
            "7: relation.compare[1]: updats is not one of its values; did you mean updates?",
        ),
        (
            ARMS + "  compare: [losses, losses]\n",
            "7: relation.compare[1]: losses is listed twice; remove one",
        ),
        (
            "  arms:\n    x: {}\n    1/8: {}\n" + SAME,
            "6: relation.arms.1/8: expected text that matches ^[A-Za-z0-9][A-Za-z0-9_.-]*$, got",
        ),
        (
            "  arms:\n    x: {}\n    y: {train: {seed: 1}}\n" + SAME,
            "6: relation.arms.y.train: expected a value, got a section; write its keys with dot",
        ),
        (
            ARMS + "  compare: [stored_mb]\n",
            "7: relation.compare[0]: stored_mb is not one of its values; ",
        ),
        (
            ARMS + "  ratio: {stored_mb: {1x8: {max: 0.4}}}\n",
            "7: relation.ratio.stored_mb.1x8: 1x8 has no ratio to the first arm; give one of 8x1",
        ),
        (
            ARMS + "  ratio: {stored_mb: {8x1: {}}}\n",
            "7: relation.ratio.stored_mb.8x1: bounds nothing; give min, max or both",
        ),
        (
            ARMS + "  ratio: {stored_mb: {}}\n",
            "7: relation.ratio.stored_mb: expected 1 or more entries, got a section;",
        ),
        (
            ARMS + SAME + "  tolerance:\n    losses: 0.1\n",
            "9: relation.tolerance.losses: there is a tolerance for losses, which isn't compared",
        ),
        (
            ARMS + SAME + "  tolerance: {gradient: 0.1}\n",
            "8: relation.tolerance.gradient: gradient is not one of its values; did you mean gr",
        ),
        (
            ARMS + SAME + "  tolerance: {gradients: -0.1}\n",
            "8: relation.tolerance.gradients: expected at least 0, got -0.1; raise it",
        ),
        (
            ARMS + SAME + "  of_rounding: 2\n",
            "8: relation.of_rounding: adds to no tolerance; give one, or remove it",
        ),
        (
            ARMS + SAME + PLANTED % ("8x2", "faults:two"),
            "8: relation.planted[1].arm: 8x2 is not an arm; give one of 1x8, 8x1",
        ),
        (
            ARMS + SAME + PLANTED % ("1x8", "more_faults:one"),
            "8: relation.planted[1].fault: a second fault is called one; give it another name",
        ),
        (
            ARMS + SAME + PLANTED % ("1x8", "faults"),
            r"8: relation.planted[1].fault: expected text that matches ^[\w.]+:\w+$, got 'fault",
        ),
        (
            "  arms:\n    x: {}\n    y:\n      logits: merged\n" + SAME,
            "7: relation.arms.y.logits: names logits, which aren't compared; add logits to comp",
        ),
        (
            "  arms: {x: {}, y: {logits: merge}}\n  compare: [logits]\n",
            "4: relation.arms.y.logits: merge is not a stage; give one of base, trained, reloaded",
        ),
        (
            "  arms:\n    x: {}\n    y:\n      logits: 3\n  compare: [logits]\n",
            "7: relation.arms.y.logits: 3 is not a stage; give one of base, trained, reloaded",
        ),
        (ARMS + SAME + "  colour: red\n", "8: relation.colour: is not a known key; it can be arms"),
    ],
)
def test_what_is_wrong(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """Each mistake with its line, the entry that it is in, and what to do."""
    (problem,) = problems_of(HEAD + text)
    assert problem.startswith(f"spec.yaml:{expected}")
