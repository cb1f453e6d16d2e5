"""The perplexity of texts by a causal language model on disk, as a program of its own too.

`python -m tunematrix.stack.yardsticks.perplexity MODEL TEXT_FILE RESULT_FILE`, where MODEL is
an absolute path, or the name of a model on the Hub.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunematrix.errors import TunematrixError
from tunematrix.stack.yardsticks.named import folder_of


@dataclass(frozen=True)
class Scorer:
    """A model that has been loaded, to judge one text after the other.

    Attributes:
        device: PyTorch's name of where it lies.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str

    @property
    def longest(self) -> int | None:
        """Tokens that it has positions for; None where it has no limit."""
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return limit

    def perplexity(self, text: str) -> float:
        """Return exp of the mean cross-entropy of a text's tokens, each given all before it.

        Args:
            text: of two tokens or more; what is beyond the model's positions isn't read.

        Raises:
            ValueError: the text has fewer.
        """
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"][:, : self.longest]
        if ids.shape[1] < 2:
            raise ValueError(f"{text!r} has fewer than two tokens, so nothing can be predicted")
        ids = ids.to(self.device)
        with torch.no_grad():
            loss = float(self.model(input_ids=ids, labels=ids).loss)
        try:
            return math.exp(loss)
        except OverflowError:
            return math.inf


def load(folder: str, device: str = "cpu") -> Scorer:
    """Load a scorer and its tokenizer; nothing is downloaded, and no code in its folder is run."""
    given = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **given)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **given)
    return Scorer(model.to(device).eval(), tokenizer, device)


def perplexity(folder: str, text: str) -> float:
    """Return the perplexity of one text by the model in a folder; see `Scorer.perplexity`."""
    return load(folder).perplexity(text)


def main(model: str, text_file: str, result_file: str) -> None:
    """Score the text of a file; what ends it is one line."""
    try:
        folder = model if Path(model).is_absolute() else str(folder_of(model))
    except TunematrixError as error:
        sys.exit(" ".join(str(error).split()))
    value = perplexity(folder, Path(text_file).read_text(encoding="utf-8"))
    Path(result_file).write_text(json.dumps({"perplexity": value}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
