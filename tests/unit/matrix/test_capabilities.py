from __future__ import annotations

from tunematrix.configuration.declarations import Declarations
from tunematrix.matrix.capabilities import No, first_no

FILE = "quantizer/mine.yaml"


def declared(**parts: object) -> Declarations:
    """Return the declarations of an option called mine."""
    return Declarations.model_validate({"name": "mine", **parts})


def test_an_undeclared_axis_is_unconstrained() -> None:
    """An option that says nothing about an axis goes with all of it."""
    assert first_no(FILE, declared(), {"method": "full", "backend": "cpu"}) is None
    only_backend = declared(capabilities={"backend": {"cpu": True}})
    assert first_no(FILE, only_backend, {"method": "full", "backend": "cpu"}) is None


def test_a_declared_no_gives_its_reason() -> None:
    """Reason, link and what is expected of a declared no are handed on with the file."""
    no = {"reason": "no gradient", "link": "https://e.org", "raises": "ValueError"}
    option = declared(capabilities={"method": {"full": no, "lora": True}})
    assert first_no(FILE, option, {"method": "full"}) == No(
        "no gradient", "https://e.org", "ValueError", (), FILE
    )
    assert first_no(FILE, option, {"method": "lora"}) is None


def test_an_unlisted_option_of_a_declared_axis_is_a_no() -> None:
    """Where an axis is declared, what nobody thought of is excluded, with the file to add it to."""
    option = declared(capabilities={"backend": {"cpu": True}})
    assert first_no(FILE, option, {"backend": "cuda"}) == No(
        "backend cuda is not declared in quantizer/mine.yaml", "", None, (), FILE
    )


def test_unsupported_needs_all_axes_to_match() -> None:
    """A combination of several axes is a no where all match, each with any of its options."""
    when = {"method": ["dora", "full"], "precision": "fp16"}
    entry = {"when": when, "reason": "overflows", "checks": ["logit_error"]}
    option = declared(unsupported=[entry])
    assert first_no(FILE, option, {"method": "dora", "precision": "fp16"}) == No(
        "overflows", "", None, ("logit_error",), FILE
    )
    assert first_no(FILE, option, {"method": "full", "precision": "fp16"}) is not None
    assert first_no(FILE, option, {"method": "lora", "precision": "fp16"}) is None
    assert first_no(FILE, option, {"method": "dora", "precision": "fp32"}) is None


def test_the_first_no_is_the_one_written_first() -> None:
    """Capabilities come before unsupported, and each in the order of the file."""
    option = declared(
        capabilities={"method": {"full": {"reason": "one"}}, "backend": {"cpu": {"reason": "two"}}},
        unsupported=[{"when": {"method": "full"}, "reason": "three"}],
    )
    no = first_no(FILE, option, {"method": "full", "backend": "cpu"})
    assert no is not None
    assert no.reason == "one"


def test_a_step_is_unsupported_wherever_it_is_taken() -> None:
    """A pipeline takes several; a cell without steps is another matter."""
    option = declared(unsupported=[{"when": {"step": ["dpo"], "backend": "mlx"}, "reason": "none"}])
    axes = {"backend": "mlx"}
    assert first_no("f", option, axes, ("sft", "dpo")) is not None
    assert first_no("f", option, axes, ("sft", "generate")) is None
    assert first_no("f", option, {"backend": "cpu"}, ("sft", "dpo")) is None
    assert first_no("f", option, axes) is None
