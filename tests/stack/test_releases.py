"""What old releases call things, tried on stand-ins for their classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from trl import DPOTrainer, SFTConfig, SFTTrainer

from tunematrix.stack import releases


@dataclass
class OldConfig:
    """As SFTConfig was in TRL 0.13, where it matters."""

    max_seq_length: int = 0
    packing: bool = False
    dataset_text_field: str = ""


class OldTrainer:
    """As trainers were before transformers 4.46: made from a name, told a tokenizer."""

    def __init__(self, model: object, tokenizer: object = None) -> None:
        self.kind: tuple[type, dict[str, Any]] = (torch.optim.AdamW, {})

    def get_optimizer_cls_and_kwargs(self, args: object, model: object) -> object:
        """Answer from what a name in the arguments stands for."""
        return self.kind


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    """Two decoder layers."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 32}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, num_attention_heads=2, **sizes))


def test_settings_by_their_old_names() -> None:
    """What was renamed gets its old name, what asks for nothing is left out."""
    wanted = {"max_length": 64, "packing": False, "completion_only_loss": None}
    assert releases.settings_of(OldConfig, wanted) == {
        "max_seq_length": 64,
        "packing": False,
        "dataset_text_field": "text",
    }


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"completion_only_loss": True}, "OldConfig of trl .* completion_only_loss=True"),
        ({"packing": True}, "packing that keeps texts whole"),
        ({"beta": 0.1}, r"beta=0\.1"),
    ],
)
def test_what_an_old_release_cannot_do(wanted: dict[str, object], said: str) -> None:
    """It is refused by name, and never left out."""
    with pytest.raises(ValueError, match=said):
        releases.settings_of(OldConfig, wanted)


def test_settings_of_today() -> None:
    """What is installed takes all of them as they are."""
    wanted = {"max_length": 64, "packing": True, "completion_only_loss": True}
    assert wanted.items() <= releases.settings_of(SFTConfig, wanted).items()


def test_arguments() -> None:
    """The tokenizer goes by the name that the constructor has, the optimizer where it has one."""
    optimizer = (torch.optim.SGD, {"lr": 1.0})
    assert releases.arguments_of(OldTrainer, "t", optimizer) == {"tokenizer": "t"}
    today = {"processing_class": "t", "optimizer_cls_and_kwargs": optimizer}
    assert releases.arguments_of(SFTTrainer, "t", optimizer) == today
    assert releases.arguments_of(DPOTrainer, "t", optimizer).keys() == {"processing_class"}


def test_an_optimizer_that_no_argument_takes(llama: LlamaForCausalLM, tmp_path: Any) -> None:
    """Old trainers and today's make the one that they are given."""
    optimizer: tuple[type, dict[str, Any]] = (torch.optim.SGD, {"lr": 0.25})
    old = OldTrainer(llama)
    releases.take_optimizer(old, optimizer)
    assert old.get_optimizer_cls_and_kwargs(None, llama) == optimizer
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    trainer = Trainer(llama, arguments)
    releases.take_optimizer(trainer, optimizer)
    made = trainer.create_optimizer()
    assert isinstance(made, torch.optim.SGD) and made.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("named", [False, True])
def test_completions_that_a_trainer_keeps_to_itself(named: bool) -> None:
    """Labels end each row where its real positions end, as many as its completion has tokens."""
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    counted = torch.tensor([[1, 0], [1, 1]])
    labels = torch.tensor([[-100, -100, 9, -100], [-100, -100, 9, 9]])
    batch = {"concatenated_labels": labels} if named else {"completion_attention_mask": counted}

    class Pairs:
        """As DPOTrainer was until TRL 0.2x: what it collates, it passes on without labels."""

        def concatenated_inputs(self) -> dict[str, torch.Tensor]:
            """Return both stories of each pair."""
            return batch

    model, trainer = nn.Linear(1, 1), Pairs()
    releases.tell_completions(trainer, model)
    assert trainer.concatenated_inputs() is batch
    ids = torch.arange(8).reshape(2, 4)
    given = releases.inputs_of(model, (ids,), {"attention_mask": mask})
    assert given["labels"].tolist() == [[-100, -100, 2, -100], [-100, -100, 6, 7]]


class MaskedPairs:
    """As DPOTrainer was from TRL 0.29 on: its batches have a mask, which the model doesn't get."""

    def compute_loss(self, model: nn.Module, batch: dict[str, Any], scale: float = 1.0) -> Any:
        """Return something."""
        return scale * batch["weight"]


def test_completions_that_a_mask_tells() -> None:
    """Of the batch that the loss is computed of, and of no other that comes later."""
    model, trainer = nn.Linear(1, 1), MaskedPairs()
    releases.tell_completions(trainer, model)
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]])
    assert trainer.compute_loss(model, {"completion_mask": mask, "weight": 3.0}, scale=2.0) == 6.0
    ids = torch.arange(8).reshape(2, 4)
    given = releases.inputs_of(model, (ids,), {})
    assert given["labels"].tolist() == [[-100, 1, 2, -100], [-100, -100, 6, 7]]
    assert "labels" not in releases.inputs_of(model, (ids[:1],), {})
    trainer.compute_loss(model, {"weight": 1.0})
    assert "labels" not in releases.inputs_of(model, (ids,), {})


@dataclass
class OldLaunch:
    """As torchrun's LaunchConfig was before torch 2.10."""

    nproc_per_node: int = 1


@dataclass
class NewLaunch(OldLaunch):
    """As it is."""

    virtual_local_rank: bool = False


def test_a_device_for_each_process() -> None:
    """Asked for by name where that is known; the CPU is shared, and nothing else may be."""
    assert releases.own_device(NewLaunch, "cuda") == {"virtual_local_rank": True}
    assert releases.own_device(NewLaunch, "cpu") == {"virtual_local_rank": False}
    assert releases.own_device(OldLaunch, "cpu") == {}
    with pytest.raises(ValueError, match=r"torch \S+ can't show each process a cuda device"):
        releases.own_device(OldLaunch, "cuda")


def test_what_torch_calls_by_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharding and the allocator are found in this release, and where older ones had them."""
    assert callable(releases.sharding().fully_shard) and releases.sharding().FSDPModule
    assert releases.allocator("cuda").memory_allocated
    monkeypatch.delattr(torch.accelerator, "memory_allocated")
    assert releases.allocator("cuda") is torch.cuda
    monkeypatch.delattr(torch, "accelerator")
    assert releases.allocator("cuda") is torch.cuda
    assert releases.current_accelerator() is None or torch.cuda.is_available()


def test_labels_that_are_given() -> None:
    """They are taken as they are; where there are none, there is no training pass."""
    model = nn.Linear(1, 1)
    releases.tell_completions(MaskedPairs(), model)
    assert releases.inputs_of(model, (), {"labels": 1}) == {"labels": 1}
    assert releases.inputs_of(model, (2,), {}) == {"input_ids": 2}


def test_decoder_layers(llama: LlamaForCausalLM) -> None:
    """Today's class and the older list of names lead to the same layers, adapted or not."""
    layers = list(llama.model.layers)
    assert releases.decoder_layers(llama) == releases.kept_whole(llama) == layers
    adapted = get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))
    assert releases.decoder_layers(adapted) == releases.kept_whole(adapted)


def test_clipping_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit stays; none stays 0 where the norm is logged anyhow, and is infinite elsewhere."""
    assert [releases.clipping_limit(limit) for limit in (0.0, 1.0)] == [0.0, 1.0]
    monkeypatch.delattr(Trainer, "_get_grad_norm")
    assert [releases.clipping_limit(limit) for limit in (0.0, 1.0)] == [float("inf"), 1.0]
