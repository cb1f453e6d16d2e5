"""Faults in rows that stand one after the other in one, without padding."""

from __future__ import annotations

from typing import Any

import torch
from transformers import masking_utils
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.catalogue import fault

FLAT = ("same-padding-free[*-lora]", "same-padding-free[*-full]")
BATCH = (DataCollatorForLanguageModeling, "torch_call")


@fault("data", replaces=(masking_utils, "find_packed_sequence_indices"), seen_by=FLAT, fitted=True)
def rows_see_each_other(original: Any, position_ids: torch.Tensor) -> torch.Tensor:
    """Let each row attend to those before it, though positions tell them apart.

    Stands for kernels of attention that don't look at positions.
    """
    return torch.zeros_like(original(position_ids))


@fault("data", replaces=BATCH, seen_by=FLAT, fitted=True)
def positions_run_on(original: Any, collator: Any, examples: Any) -> Any:
    """Count positions on from row to row.

    Stands for collators that leave positions to the model.
    """
    batch = original(collator, examples)
    if "position_ids" in batch and "attention_mask" not in batch:
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
    return batch


@fault("labels", replaces=BATCH, seen_by=FLAT, fitted=True)
def first_tokens_count(original: Any, collator: Any, examples: Any) -> Any:
    """Let the first token of each row count, predicted from the end of another.

    Stands for labels that are shifted over the border of two rows.
    """
    batch = original(collator, examples)
    if "attention_mask" not in batch:
        begins = batch["position_ids"] == 0
        batch["labels"] = torch.where(begins, batch["input_ids"], batch["labels"])
    return batch


@fault("data", replaces=BATCH, seen_by=FLAT, fitted=True)
def last_row_dropped(original: Any, collator: Any, examples: Any) -> Any:
    """Leave the last row of a batch out.

    Stands for room in a batch that is worked out from rows of equal length.
    """
    return original(collator, examples[:-1])


@fault("data", replaces=BATCH, seen_by=FLAT, fitted=True)
def a_position_left_out(original: Any, collator: Any, examples: Any) -> Any:
    """Leave out one position inside of each row, which attention takes for the end of it.

    Stands for positions that count an end token twice.
    """
    batch = original(collator, examples)
    if "attention_mask" not in batch:
        places = batch["position_ids"]
        batch["position_ids"] = places + (places > 40).to(places)
    return batch
