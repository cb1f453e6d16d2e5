"""What a step is trained on and asked about: a file of the user's, or data of the toy world.

`toyworld://stories` and `toyworld://preferences` are of the dialect that the base model doesn't
know. A model that has learned it prefers neither story of a pair, so what aligning does to it is a
shift from one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets import Dataset

from tunematrix.configuration.steps import DatasetFile, PromptDataset
from tunematrix.errors import WrongSetting, did_you_mean
from tunematrix.stack.steps.rows import read_rows
from tunematrix.stack.toyworld import corpus, preferences
from tunematrix.stack.toyworld.corpus import Split
from tunematrix.stack.toyworld.grammar import Dialect
from tunematrix.stack.toyworld.models import SCHEME

DIALECT: Dialect = "B"
NAMES = ("preferences", "stories")
_ROWS = 2000
_SEED = 0


SCORED_ROWS = 32
"""That a model is asked about before and after."""


def read(dataset: DatasetFile, fields: Mapping[str, str]) -> tuple[Dataset, Dataset]:
    """Return the rows to train on, and those that a model is asked about before and after.

    Those are held out where the data is the toy world's, and else the first of its own.

    Args:
        dataset: the section of the config. fields: usual name of a field → what it is called there.

    Raises:
        WrongSetting: the file, or a field, can't be used.
    """
    if is_toy(dataset.path):
        held_out = toy_rows(dataset.path, "held-out", SCORED_ROWS)
        return Dataset.from_list([*toy_rows(dataset.path)]), Dataset.from_list([*held_out])
    rows = read_rows(dataset, fields)
    return rows, rows.select(range(min(len(rows), SCORED_ROWS)))


def prompts(dataset: PromptDataset) -> Sequence[str]:
    """Return the prompts of a file, or beginnings of held-out stories of the toy world.

    Raises:
        WrongSetting: the file, or the field, can't be used.
    """
    if is_toy(dataset.path):
        rows = toy_rows(f"{SCHEME}preferences", "held-out", SCORED_ROWS)
        return [row["prompt"] for row in rows]
    rows = read_rows(dataset, {"prompt": dataset.prompt_field})
    return list(rows["prompt"])


def is_toy(path: str) -> bool:
    """Whether a dataset's path names one of the toy world's."""
    return path.startswith(SCHEME)


def toy_rows(path: str, split: Split = "train", count: int = _ROWS) -> Sequence[Mapping[str, str]]:
    """Return rows of the toy world, under the usual names of their fields.

    Args:
        path: `toyworld://stories` or `toyworld://preferences`.
        split: of what may be trained on, or of what is held out. count: rows.

    Raises:
        WrongSetting: the toy world has no such data.
    """
    name = path.removeprefix(SCHEME)
    if name == "stories":
        return corpus.rows("text", DIALECT, count, _SEED, split)
    if name == "preferences":
        pairs = preferences.pairs(DIALECT, count, _SEED, split)
        return [{name: str(text) for name, text in pair.items()} for pair in pairs]
    text = f"{path}: the toy world has no such data; {did_you_mean(name, NAMES)}"
    raise WrongSetting(("dataset", "path"), text)
