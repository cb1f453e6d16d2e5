"""Settings by which specs ask for what older releases do: they take effect, or are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tiny import tiny_configuration
from transformers import PreTrainedModel

from tunematrix.configuration import Configuration
from tunematrix.errors import BadInput
from tunematrix.stack.quantizers.hqq import Hqq
from tunematrix.stack.recipes.data import ended

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall


def ending(end_token: str, form: str = "text") -> Configuration:
    """Return a configuration that asks for it, over data of one form."""
    config = tiny_configuration("unused.recipe", end_token=end_token)
    data = config.data.model_copy(update={"name": form, "form": form})
    return config.model_copy(update={"data": data})


def test_rows_that_end_themselves() -> None:
    """Texts, completions and both of a pair end with the token, prompts don't."""
    rows = [{"text": "a"}, {"prompt": "b", "completion": "c"}]
    assert ended(ending("trainer"), rows, "<e>") is rows
    assert ended(ending("row"), rows, "<e>") == [
        {"text": "a<e>"},
        {"prompt": "b", "completion": "c<e>"},
    ]


@pytest.mark.parametrize("form", ["chat", "chat-completion"])
def test_ends_that_cannot_be_had(form: str) -> None:
    """A template ends conversations."""
    with pytest.raises(ValueError, match=f"end_token=row can't be had with data {form}"):
        ended(ending("row", form), [{"text": "a"}], "<e>")


def test_one_end_token_is_enough(run_small: RunSmall) -> None:
    """A trainer that ends texts by itself adds none to a row that has one."""
    assert run_small(train__end_token="row").failed == set()


def test_checkpointing_as_the_library_has_it(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is told then; and what isn't known is refused before anything runs."""
    seen: list[object] = []
    enable = PreTrainedModel.gradient_checkpointing_enable

    def spying(model: PreTrainedModel, gradient_checkpointing_kwargs: object = None) -> object:
        seen.append(gradient_checkpointing_kwargs)
        return enable(model, gradient_checkpointing_kwargs)

    monkeypatch.setattr(PreTrainedModel, "gradient_checkpointing_enable", spying)
    on = {"train__gradient_checkpointing": True}
    for kind in ("library", "non-reentrant"):
        assert run_small("custom-lora", **on, train__checkpointing=kind).failed == set()
    assert seen == [None, {"use_reentrant": False}]
    with pytest.raises(BadInput, match="twice is not one of its values"):
        run_small("custom-lora", **on, train__checkpointing="twice")


def test_who_quantizes() -> None:
    """Hqq's own loader or transformers', and nobody else."""
    assert Hqq(4, 64).through == "hqq"
    with pytest.raises(ValueError, match="through=torch is neither"):
        Hqq(4, 64, through="torch")  # type: ignore[arg-type]  # as a config may have it
