"""The toy world for tests of your own: models, a tokenizer, and data with a known floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunematrix.paths import project_root, state
from tunematrix.testing import backends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunematrix.stack.toyworld.corpus import Form, Split

NAMES = {"llama": "base"}
"""What a model is called here, where the toy world calls it otherwise."""


def tiny_model(name: str = "llama", *, backend: str = "cpu", cache_dir: Path | None = None) -> Any:
    """Load a tiny causal language model in float32, without a download.

    Args:
        name: "llama", which knows one dialect of the toy world; or, randomly initialised, "wide",
            "qwen", "gemma", "gpt2", "moe", "phi3" or "untied".
        backend: where it is to compute; "mlx" loads it through mlx-lm.
        cache_dir: where models that are made once are kept; by default the project's.

    Raises:
        BadInput: there is no such model or backend.
    """
    from tunematrix.stack.toyworld import models

    folder = models.resolve(f"{models.SCHEME}{NAMES.get(name, name)}", cache_dir or _cache())
    return backends.load_original(folder, backend)


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Return the tokenizer of all tiny models: fast, with a pad token and a chat template."""
    from tunematrix.stack.toyworld import tokenizer

    return tokenizer.build()


def tiny_dataset(
    form: Form = "text", rows: int = 16, *, seed: int = 0, split: Split = "train"
) -> list[dict[str, Any]]:
    """Return rows in the columns that TRL expects; `Dataset.from_list` takes them.

    Args:
        form: "text", "chat", "chat-completion", "prompt-completion" or "unequal".
        rows: how many; seed: of the draws.
        split: "train" or "held-out"; no story is in both.
    """
    from tunematrix.stack.recipes.data import DIALECT
    from tunematrix.stack.toyworld import corpus

    return corpus.rows(form, DIALECT, rows, seed, split)


def tiny_floor(rows: Sequence[Mapping[str, Any]], form: Form = "text") -> float:
    """Return the exact entropy of rows of `tiny_dataset`, in nats per token that counts.

    No model's mean loss over many such rows can be lower: the grammar that draws them is known.
    """
    from tunematrix.stack.recipes.data import DIALECT, examples
    from tunematrix.stack.toyworld import corpus

    words = tiny_tokenizer()
    tokens = sum(sum(one.counted[1:]) for one in examples(words, form, rows))
    return sum(corpus.row_floor(form, DIALECT, row) for row in rows) / tokens


def _cache() -> Path:
    return state(project_root(Path.cwd())) / "cache"
