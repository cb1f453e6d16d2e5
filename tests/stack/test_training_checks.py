"""Faults inside the training step that a trainer gets past, and the checks that name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import layer as peft_layer
from transformers import Trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim
from tunematrix.errors import BadInput
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import AdapterDropout, Finished, MicroBatch
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.faults.patching import replaced
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.engines.examples import IGNORED
from tunematrix.stack.recipes import sft

SMALL: Mapping[str, object] = {
    "train.max_steps": 4,
    "train.batch_size": 4,
    "meters.held_out_rows": 8,
}

RunCell = Callable[..., tuple[Evidence, set[str]]]
"""Takes axes by name and settings with `__` for a dot; returns the names of failed checks too."""


@pytest.fixture
def run_cell(tmp_path: Path) -> RunCell:
    """Run a tiny cell by the real recipe and the real trainer, and judge it."""
    groups = read_groups([shipped_configs()])

    def run(**settings: object) -> tuple[Evidence, set[str]]:
        axes = {name: [value] for name, value in settings.items() if "__" not in name}
        own = {n.replace("__", "."): value for n, value in settings.items() if "__" in n}
        data = {"test_id": "tiny", "recipe": "sft", "matrix": {"method": ["lora"], **axes}}
        spec = Spec.model_validate({**data, "overrides": {**SMALL, **own}})
        (cell,), _ = expand(spec, groups, ["cpu"])
        config = compose(cell, groups, str(tmp_path))
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with EventLog(folder / "events.jsonl") as events:
            sft.run(config, events, folder)
            events.write(Finished())
        end = Exit(0, None, False, (), 1.0, isolation="foreground")
        evidence = Evidence(end, read_events(folder / "events.jsonl"), "", "", ())
        verdicts = judge(evidence, Claim(spec, config))
        return evidence, {v.name for v in verdicts if v.outcome == "failed"}

    return run


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_dropout_that_is_ignored(method: str, run_cell: RunCell) -> None:
    """Honest adapters drop a tenth of their inputs; in a layer that passes all on, none."""
    settings = {"method": method, "method__implementation__dropout": 0.1}
    honest, failed = run_cell(**settings)
    assert failed == set()
    seen = honest.one(AdapterDropout)
    assert seen is not None and seen.zeroed > 0

    def passing(original: Any) -> Any:
        return lambda p: torch.nn.Identity()

    with replaced(peft_layer.nn, "Dropout", passing):
        _, failed = run_cell(**settings)
    assert failed == {"adapter_dropout", "dropout_factor", "dropout_independent"}


def test_dropout_that_nobody_asked_for(run_cell: RunCell) -> None:
    """Configured as 0, not one input may be dropped."""

    def dropping(original: Any) -> Any:
        return lambda *args: torch.nn.Dropout(0.01)

    with replaced(peft_layer.nn, "Identity", dropping):
        _, failed = run_cell()
    assert "adapter_dropout" in failed


def _trained_in(dtype: torch.dtype) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def create(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            for parameter in trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)
            return original(trainer, *args, **kwargs)

        return create

    return wrap


def test_adapters_that_follow_their_bases_dtype(run_cell: RunCell) -> None:
    """Adapters in bfloat16 learn here as well; that they were cast is all that can be noticed."""
    axes = {"precision": "bf16"}
    _, failed = run_cell(**axes)
    assert failed == set()
    with replaced(Trainer, "create_optimizer", _trained_in(torch.bfloat16)):
        _, failed = run_cell(**axes)
    assert failed == {"trained_dtypes", "continuity"}


def test_updates_that_are_rounded_away(run_cell: RunCell) -> None:
    """Weights in bfloat16 don't move by a ten-thousandth of themselves; in float32 they do."""
    settings = {"method": "full", "precision": "bf16", "train__learning_rate": 2e-5}
    _, failed = run_cell(**settings)
    assert "moved_share" not in failed
    with replaced(Trainer, "create_optimizer", _trained_in(torch.bfloat16)):
        _, failed = run_cell(**settings)
    assert "moved_share" in failed


def _mislabelled(spoil: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def collate(collator: Any, examples: Any) -> Any:
            batch = original(collator, examples)
            spoil(batch)
            return batch

        return collate

    return wrap


END = 1
"""The id of the toy world's end token."""


def _mask_what_pads(batch: dict[str, torch.Tensor]) -> None:
    batch["labels"][batch["input_ids"] == END] = IGNORED


def _attend_to_padding(batch: dict[str, torch.Tensor]) -> None:
    batch["attention_mask"][:] = 1


def _swap_a_word(batch: dict[str, torch.Tensor]) -> None:
    """Put the same wrong word into a row and its labels: nothing but the row itself tells."""
    batch["input_ids"][0, 3] = batch["labels"][0, 3] = batch["input_ids"][0, 4]


def _count_the_prompt(batch: dict[str, torch.Tensor]) -> None:
    batch["labels"][:, 1] = batch["input_ids"][:, 1]  # nothing predicts the very first


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("spoil", "settings"),
    [
        (_mask_what_pads, {"train__padding": "eos"}),
        (_mask_what_pads, {"train__padding": "eos", "data": "chat", "train__max_length": 256}),
        (_attend_to_padding, {}),
        (_swap_a_word, {}),
        (_count_the_prompt, {"data": "prompt-completion"}),
    ],
)
def test_rows_that_are_not_as_they_should_be(
    spoil: Callable[[dict[str, torch.Tensor]], None],
    settings: dict[str, object],
    run_cell: RunCell,
) -> None:
    """Every row of every batch is looked at, and an honest collator passes."""
    honest, failed = run_cell(**settings)
    assert failed == set()
    assert all(batch.audited == batch.rows == batch.faithful for batch in honest.all(MicroBatch))
    with replaced(DataCollatorForLanguageModeling, "torch_call", _mislabelled(spoil)):
        _, failed = run_cell(**settings)
    assert "labels" in failed


def test_an_unknown_padding_is_refused(run_cell: RunCell) -> None:
    """A setting that nothing knows has no silent default."""
    with pytest.raises(BadInput, match="left is not one of its values; it can be pad, eos"):
        run_cell(train__padding="left")


@pytest.mark.parametrize("model", ["toy-gpt2", "toy-moe"])
def test_other_architectures_train_in_the_plain_loop(model: str, run_cell: RunCell) -> None:
    """Transposed projections and experts pass every check of training."""
    _, failed = run_cell(model=model, method="custom-lora")
    assert failed == set()
