"""The perplexity of a text by a causal language model on disk, as a program of its own.

`python -m tunematrix.stack.yardsticks.perplexity MODEL TEXT_FILE RESULT_FILE`
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def perplexity(folder: str, text: str) -> float:
    """Return exp of the mean cross-entropy of a text's tokens, each given all before it.

    Args:
        folder: of the model and its tokenizer; nothing is downloaded, and no code in it is run.
        text: of two tokens or more.

    Raises:
        ValueError: the text has fewer.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    if ids.shape[1] < 2:
        raise ValueError(f"{text!r} has fewer than two tokens, so nothing can be predicted")
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    return math.exp(float(loss))


if __name__ == "__main__":
    model_folder, text_file, result_file = sys.argv[1:]
    value = perplexity(model_folder, Path(text_file).read_text(encoding="utf-8"))
    Path(result_file).write_text(json.dumps({"perplexity": value}), encoding="utf-8")
