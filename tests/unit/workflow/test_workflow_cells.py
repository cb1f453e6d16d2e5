"""The pure parts of the way; the way itself is walked in tests/plugin."""

from __future__ import annotations

from collections.abc import Mapping

from tunematrix.configuration.releases import ReleaseTable
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.relations import Arm, Related
from tunematrix.results.outcome import Expected
from tunematrix.spec import Spec
from tunematrix.workflow.cells import declared_failures, known_failures

LINK = "https://example.org"
NOTHING = ReleaseTable()


def _cell(axes: Mapping[str, str]) -> Cell:
    return Cell("a[one]", Spec(test_id="a", recipe="sft"), axes, {})


def test_known_failures_of_a_cell() -> None:
    """Those whose options the cell has, in the order of the spec."""
    entries = [
        {"when": {"quantizer": "none"}, "check": "moved", "reason": "r0"},
        {"when": {"quantizer": ["hqq-int4", "hqq-int8"]}, "raises": "ValueError", "reason": "r1"},
        {"when": {"method": "lora"}, "check": "reload", "reason": "r2"},
    ]
    link = "https://example.org"
    spec = Spec.model_validate(
        {
            "test_id": "a",
            "recipe": "sft",
            "known_failures": [{**entry, "link": link} for entry in entries],
        }
    )
    cell = Cell("a[cpu]", spec, {"quantizer": "hqq-int8", "method": "lora"}, {})
    assert known_failures(cell, NOTHING) == (
        Expected("ValueError", None, "r1", link),
        Expected(None, "reload", "r2", link),
    )
    assert known_failures(_cell({"quantizer": "none"}), NOTHING) == ()


def test_declared_failures_of_an_exclusion() -> None:
    """Each check that is named has to fail, or the exception, or anything where none is named."""
    cell = _cell({"quantizer": "none"})

    def declared(raises: str | None, *checks: str) -> tuple[Expected, ...]:
        return declared_failures(Exclusion(cell, "r", "https://e", raises, checks, "a.yaml"))

    assert declared(None, "moved", "reload") == (
        Expected(None, "moved", "r", "https://e"),
        Expected(None, "reload", "r", "https://e"),
    )
    assert declared("ValueError") == (Expected("ValueError", None, "r", "https://e"),)
    assert declared(None) == (Expected(None, None, "r", "https://e"),)


def test_known_failures_of_a_relation() -> None:
    """The relation's checks are the relation's, all others its arms'; one arm of a kind will do."""
    when = {"method": "dora"}
    entries = [
        {"when": when, "check": check, "reason": check, "link": LINK}
        for check in ("same_gradients_mean", "ratio_stored_mb", "moved")
    ]
    arms = {"x": {"method": "lora"}, "y": {"method": "dora"}}
    spec = Spec.model_validate(
        {
            "test_id": "a",
            "recipe": "sft",
            "relation": {"arms": arms, "compare": ["gradients"]},
            "known_failures": entries,
        }
    )
    cells = {name: Cell(f"a[{name}]", spec, axes, {}) for name, axes in arms.items()}
    related = Related(
        "a[one]",
        spec,
        {"method": ("lora", "dora")},
        tuple(Arm(name, cell, "trained") for name, cell in cells.items()),
    )
    assert [one.check for one in known_failures(related, NOTHING)] == [
        "same_gradients_mean",
        "ratio_stored_mb",
    ]
    assert [one.check for one in known_failures(cells["y"], NOTHING)] == ["moved"]
    assert known_failures(cells["x"], NOTHING) == ()


def _old(**fault: object) -> ReleaseTable:
    """What is known of the releases that are installed: one fault."""
    entry = {"releases": {"trl": "<0.20"}, "reason": "as it was", "link": LINK, **fault}
    return ReleaseTable.model_validate({"faults": [entry]})


def test_faults_of_a_relation_whose_arm_is_another_specs_cell() -> None:
    """They hold by the relation's own name, and not by that of the spec that runs the arm."""
    arm = _cell({"method": "lora"})
    wanted = {"arms": {"x": {}, "y": {"method": "dora"}}, "compare": ["gradients"]}
    spec = Spec.model_validate({"test_id": "b", "recipe": "sft", "relation": wanted})
    related = Related("b[x]", spec, {}, (Arm("x", arm, "trained"),))
    own, other = (_old(checks=["same_gradients"], when={"spec": name}) for name in ("b", "a"))
    assert [one.check for one in known_failures(related, own)] == ["same_gradients"]
    assert known_failures(related, other) == ()


def test_faults_of_releases() -> None:
    """Of the cells that the entry names, and none of them has to show."""
    cell = _cell({"method": "lora"})
    may = Expected(None, "moved", "as it was", LINK, must=False)
    assert known_failures(cell, _old(checks=["moved"])) == (may,)
    assert known_failures(cell, _old(checks=["moved"], when={"method": ["full", "lora"]})) == (may,)
    assert known_failures(cell, _old(checks=["moved"], when={"spec": "a"})) == (may,)
    for other in ({"method": "full"}, {"spec": "b"}, {"method": "lora", "data": "chat"}):
        assert known_failures(cell, _old(checks=["moved"], when=other)) == ()
    assert known_failures(cell, _old(checks=["same_gradients"])) == ()
    (raising,) = known_failures(cell, _old(raises="KeyError"))
    assert (raising.raises, raising.check, raising.must) == ("KeyError", None, False)


def test_known_failures_of_some_releases() -> None:
    """With others, and where the distribution isn't there, the cell has to pass."""
    entry = {"when": {"method": "lora"}, "check": "moved", "reason": "today", "link": LINK}
    ranged = {**entry, "releases": {"transformers": ">=5,<5.20"}}
    spec = Spec.model_validate({"test_id": "a", "recipe": "sft", "known_failures": [ranged]})
    cell = Cell("a[x]", spec, {"method": "lora"}, {})
    for version, count in (("5.10.1", 1), ("4.57.3", 0), ("5.20.0", 0), (None, 0)):
        assert len(known_failures(cell, NOTHING, {"transformers": version}.get)) == count


def test_a_spec_without_ranges_keeps_its_digest() -> None:
    """What was recorded of it before can be compared with it."""
    entry = {"when": {"method": "lora"}, "check": "moved", "reason": "today", "link": LINK}
    spec = Spec.model_validate({"test_id": "a", "recipe": "sft", "known_failures": [entry]})
    (written,) = spec.model_dump(mode="json")["known_failures"]
    assert written == {**entry, "raises": None}
