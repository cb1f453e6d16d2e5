"""Make a tiny checkpoint in LitGPT's own form, then run `litgpt finetune_lora` with it.

The first argument is the folder of the checkpoint; LitGPT gets that and all others.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from litgpt import GPT, Config
from litgpt.__main__ import main
from litgpt.utils import save_config

BASE = Path("../../src/tunematrix/stack/toyworld/base")
"""Where the tokenizer comes from."""


def make_checkpoint(folder: Path) -> None:
    """Write a model with random weights, and its tokenizer."""
    folder.mkdir(parents=True)
    config = Config(
        name="tiny",
        hf_config={},
        block_size=512,
        vocab_size=256,
        padded_vocab_size=256,
        n_layer=2,
        n_head=4,
        n_embd=128,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=256,
    )
    torch.manual_seed(0)
    torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
    save_config(config, folder)
    for path in BASE.glob("*.json"):
        shutil.copy(path, folder)


if __name__ == "__main__":
    make_checkpoint(Path(sys.argv[1]))
    sys.argv[1:1] = ["finetune_lora"]
    main()
