"""What a step is trained on and asked about: a file of the user's, or data of the toy world.

`toyworld://stories` and `toyworld://preferences` are of the dialect that the base model doesn't
know, and with `/A` at the end of the one that it knows. A model of a dialect prefers neither story
of its pairs, so what aligning does to it is a shift from one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunematrix.configuration.inputs import DatasetFile, PromptDataset
from tunematrix.errors import WrongSetting, did_you_mean
from tunematrix.stack.steps.rows import read_rows, texts
from tunematrix.stack.toyworld import corpus, preferences
from tunematrix.stack.toyworld.corpus import Split
from tunematrix.stack.toyworld.grammar import Dialect
from tunematrix.stack.toyworld.models import SCHEME

if TYPE_CHECKING:
    from datasets import Dataset

_DIALECTS: Mapping[str, Dialect] = {"": "B", "A": "A", "B": "B"}
_KINDS = ("preferences", "stories")
_PROMPTS = 16
_ROWS = 2000
_SEED = 0


SCORED_ROWS = 32
"""That a model is asked about before and after."""


def read(dataset: DatasetFile, fields: Mapping[str, str]) -> tuple[Dataset, Dataset]:
    """Return the same rows as `listed`, as datasets.

    Raises:
        WrongSetting: see `listed`.
    """
    # Only here, since MLX's environment lacks it.
    from datasets import Dataset

    if is_toy(dataset.path):
        own, held_out = listed(dataset, fields)
        return Dataset.from_list([*own]), Dataset.from_list([*held_out])
    rows = read_rows(dataset, fields)
    return rows, rows.select(range(min(len(rows), SCORED_ROWS)))


def listed(
    dataset: DatasetFile, fields: Mapping[str, str]
) -> tuple[Sequence[Mapping[str, str]], Sequence[Mapping[str, str]]]:
    """Return the rows to train on, and those that a model is asked about before and after.

    Those are held out where the data is the toy world's, and else the first of its own.

    Args:
        dataset: the section of the config. fields: usual name of a field → what it is called there.

    Raises:
        WrongSetting: the file, or a field, can't be used.
    """
    if is_toy(dataset.path):
        return toy_rows(dataset.path), toy_rows(dataset.path, "held-out", SCORED_ROWS)
    rows = list(texts(dataset, fields))
    return rows, rows[:SCORED_ROWS]


def prompts(dataset: PromptDataset) -> Sequence[str]:
    """Return the prompts of a file, or beginnings of held-out stories of the toy world.

    Raises:
        WrongSetting: the file, or the field, can't be used.
    """
    if is_toy(dataset.path):
        return [row["prompt"] for row in toy_rows(dataset.path, "held-out", _PROMPTS)]
    return [row["prompt"] for row in texts(dataset, {"prompt": dataset.prompt_field})]


def is_toy(path: str) -> bool:
    """Whether a dataset's path names one of the toy world's."""
    return path.startswith(SCHEME)


def toy_rows(path: str, split: Split = "train", count: int = _ROWS) -> Sequence[Mapping[str, str]]:
    """Return rows of the toy world, under the usual names of their fields.

    Args:
        path: `toyworld://stories` or `toyworld://preferences`, perhaps with `/A`.
        split: of what may be trained on, or of what is held out. count: rows.

    Raises:
        WrongSetting: the toy world has no such data.
    """
    kind, _, dialect = path.removeprefix(SCHEME).partition("/")
    if kind not in _KINDS or dialect not in _DIALECTS:
        text = f"{path}: the toy world has no such data; {did_you_mean(kind, _KINDS)}"
        raise WrongSetting(("dataset", "path"), text)
    own = _DIALECTS[dialect]
    if kind == "stories":
        return corpus.rows("text", own, count, _SEED, split)
    pairs = preferences.pairs("prompt-completion", own, count, _SEED, split)
    return [{name: str(text) for name, text in pair.items()} for pair in pairs]
