"""Models to fine-tune: a `toyworld://` name or a user's path in, a checkpoint folder out.

Nothing here needs torch, so every environment gets the same bytes; only models of other
architectures are made by transformers' own classes, and so in environments that have torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import LlamaConfig, PretrainedConfig

from tunematrix.stack.toyworld import checkpoint, tokenizer

BASE = Path(__file__).parent / "base"
ARCHITECTURES = ("qwen", "gemma", "gpt2", "moe", "phi3", "untied")
"""Made by `architectures`, which needs torch."""
SCHEME = "toyworld://"

_VOCABULARY_SIZE = 256  # the tokenizer's, rounded up to a multiple of quantization groups
_HEAD_SIZE = 32
_WIDE_SEED = 0


def base_config() -> LlamaConfig:
    """Describe a Llama of 0.36 M parameters; it learns a dialect in half a minute on two cores."""
    # With the usual 0.02 so small a model is slow to learn to copy, and so is its fine-tuning.
    return _config(hidden_size=128, intermediate_size=256, layers=2, initializer_range=0.1)


def wide_config() -> LlamaConfig:
    """Describe a Llama of 25.8 M parameters, nearly all in linear layers: enough to be weighed."""
    return _config(hidden_size=512, intermediate_size=1408, layers=8)


def resolve(path: str, cache_dir: Path) -> Path:
    """Find the checkpoint folder of a model.

    Args:
        path: "toyworld://base" (shipped), "toyworld://wide" or "toyworld://" and one of
            `ARCHITECTURES` (made once, in `cache_dir`), or a checkpoint folder.
        cache_dir: where generated checkpoints are kept; made when missing.

    Raises:
        UnusableCheckpoint: an unknown toy-world name, or a folder that can't be loaded.
    """
    if not path.startswith(SCHEME):
        return checkpoint.checked(Path(path).expanduser())
    match path.removeprefix(SCHEME):
        case "base":
            return BASE
        case "wide":
            config = wide_config()
            return _kept(cache_dir, "wide", config, partial(_write_random, config, _WIDE_SEED))
        case name if name in ARCHITECTURES:
            return _of_architecture(cache_dir, name)
        case name:
            known = ", ".join(f"{SCHEME}{one}" for one in ("base", "wide", *ARCHITECTURES))
            raise checkpoint.UnusableCheckpoint(
                path,
                f"the toy world has no model {name!r}",
                "a typing error",
                f"give {known} or a checkpoint folder",
            )


def _config(
    hidden_size: int, intermediate_size: int, layers: int, initializer_range: float = 0.02
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=_VOCABULARY_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // _HEAD_SIZE,
        initializer_range=initializer_range,
        max_position_embeddings=tokenizer.LONGEST_TEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.SPECIAL_TOKENS.index(tokenizer.EOS),
        pad_token_id=tokenizer.SPECIAL_TOKENS.index(tokenizer.PAD),
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )


def _of_architecture(cache_dir: Path, name: str) -> Path:
    try:
        from tunematrix.stack.toyworld import architectures  # the others need no torch
    except ModuleNotFoundError as error:
        raise checkpoint.UnusableCheckpoint(
            f"{SCHEME}{name}",
            f"it is made by {error.name}, which isn't installed here",
            "an environment without PyTorch, such as mlx",
            f"take {SCHEME}base or {SCHEME}wide, or another environment",
        ) from None
    return _kept(
        cache_dir, name, architectures.configuration(name), partial(architectures.write, name)
    )


def _kept(
    cache_dir: Path, name: str, config: PretrainedConfig, write: Callable[[Path], None]
) -> Path:
    """Return the folder of a generated checkpoint; `write` fills it where there is none yet."""
    # Named after its content, so that what another version left in the cache isn't taken for it.
    content = f"{config.to_json_string()}{tokenizer.build().backend_tokenizer.to_str()}"
    folder = cache_dir / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    unfinished = folder.with_suffix(".unfinished")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            write(unfinished)
            unfinished.rename(folder)
    return folder


def _write_random(config: LlamaConfig, seed: int, folder: Path) -> None:
    """Write a checkpoint with the distribution of weights that Llama is initialised with."""
    generator = np.random.default_rng(seed)
    weights = {
        name: np.ones(shape, np.float32)
        if name.endswith("norm.weight")
        else generator.standard_normal(shape, np.float32) * np.float32(config.initializer_range)
        for name, shape in _stored_shapes(config)
    }
    config.save_pretrained(folder)
    tokenizer.save(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _stored_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor on disk; the tied output layer isn't among them."""
    hidden, inner = config.hidden_size, config.intermediate_size
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}.self_attn.{projection}.weight", (hidden, hidden)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes, even by a killed process
        yield
