"""Faults in which rows come, and when: each row that is seen is a row of the data."""

from __future__ import annotations

from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.sft_trainer import SFTTrainer

from tunematrix.faults.catalogue import fault

KEPT = 0.8
"""Share of the rows, the shortest of them."""
SEED = 42
PREPARED, SAMPLER = (SFTTrainer, "_prepare_dataset"), (Trainer, "_get_train_sampler")


def _lengths(rows: Dataset) -> list[int]:
    return [len(ids) for ids in rows["input_ids"]]


@fault("data", replaces=PREPARED)
def longest_rows_filtered(
    original: Any, trainer: Any, dataset: Any, *args: Any, **kwargs: Any
) -> Any:
    """Leave the longest fifth of the rows out while the data is prepared.

    Stands for filters by length that a preprocessing brings along: what is long is never learned.
    """
    found = original(trainer, dataset, *args, **kwargs)
    lengths = _lengths(found)
    limit = sorted(lengths)[int(len(lengths) * KEPT)]
    return found.select([i for i, length in enumerate(lengths) if length < limit])


@fault("data", replaces=PREPARED)
def longest_row_filtered(
    original: Any, trainer: Any, dataset: Any, *args: Any, **kwargs: Any
) -> Any:
    """Leave the one longest row out, as where a limit is compared by `<` and not by `<=`."""
    found = original(trainer, dataset, *args, **kwargs)
    lengths = _lengths(found)
    longest = lengths.index(max(lengths))
    return found.select([i for i in range(len(found)) if i != longest])


@fault("data", replaces=SAMPLER)
def rows_grouped_by_length(_original: Any, trainer: Any, *_: Any) -> Any:
    """Put rows of about one length into each batch, as a setting does that nobody made.

    Stands for `group_by_length` that a recipe switches on for speed: batches are no longer drawn
    from all of the data.
    """
    return LengthGroupedSampler(
        trainer.args.train_batch_size,
        trainer.train_dataset,
        lengths=_lengths(trainer.train_dataset),
    )


@fault("data", replaces=PREPARED)
def rows_sorted_by_length(
    original: Any, trainer: Any, dataset: Any, *args: Any, **kwargs: Any
) -> Any:
    """Sort the rows by their length before they are shuffled: another permutation, and no more."""
    found = original(trainer, dataset, *args, **kwargs)
    lengths = _lengths(found)
    return found.select(sorted(range(len(found)), key=lengths.__getitem__))


@fault("data", replaces=(SeedableRandomSampler, "__init__"))
def rows_by_another_seed(original: Any, sampler: Any, *args: Any, **kwargs: Any) -> None:
    """Shuffle by a seed of the sampler's own, whatever the run's is.

    Stands for a `data_seed` with a default: runs of several seeds all see one order.
    """
    original(sampler, *args, **{**kwargs, "data_seed": SEED})


@fault(
    "data",
    replaces=(SeedableRandomSampler, "set_epoch"),
    seen_by=("same-resumed-later-pass[*]",),
)
def one_order_for_all_passes(original: Any, sampler: Any, _epoch: int) -> None:
    """Leave the sampler at its first pass, so that each pass repeats the order of the first.

    Stands for loops that never call set_epoch.
    """
    original(sampler, 0)


@fault("data", replaces=(Dataset, "to_iterable_dataset"), seen_by=("streaming[*-lora-text]",))
def stream_shuffled(original: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
    """Shuffle a stream within a buffer, though it was to come as it is.

    Stands for buffers that loaders put behind a stream by default.
    """
    return original(rows, *args, **kwargs).shuffle(seed=SEED, buffer_size=8)


@fault("data", replaces=(Dataset, "to_iterable_dataset"), seen_by=("streaming[*-lora-text]",))
def stream_begins_late(original: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
    """Lose the first row of a stream.

    Stands for readers that look at an example before they begin.
    """
    return original(rows, *args, **kwargs).skip(1)


@fault("data", replaces=(Dataset, "to_iterable_dataset"), seen_by=("streaming[*-lora-text]",))
def stream_repeats_a_row(original: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
    """Give the first row of a stream again in the place of the second.

    Stands for readers that put back what they have looked at.
    """
    return original(rows.select([0, 0, *range(2, len(rows))]), *args, **kwargs)
