"""Models to fine-tune: a `toyworld://` name or a user's path in, a checkpoint folder out.

Nothing here needs torch or asks transformers for weights: they are the same in every environment,
and over all releases.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.numpy import save_file
from transformers import LlamaConfig, PretrainedConfig

from tunematrix.stack.toyworld import architectures, checkpoint, tokenizer, weights

BASE = Path(__file__).parent / "base"
SCHEME = "toyworld://"

_HEAD_SIZE = 32
_SEED = 0
_SPREAD = 0.08
"""Of the weights of norms, in models whose architecture is what they are for."""


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
            `architectures.NAMES` (made once, in `cache_dir`), or a checkpoint folder.
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
            return _kept(cache_dir, "wide", wide_config(), spread=0.0)
        case name if name in architectures.NAMES:
            return _kept(cache_dir, name, architectures.configuration(name), _SPREAD)
        case name:
            known = ", ".join(f"{SCHEME}{one}" for one in ("base", "wide", *architectures.NAMES))
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
        vocab_size=architectures.VOCABULARY_SIZE,
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


def _kept(cache_dir: Path, name: str, config: PretrainedConfig, spread: float) -> Path:
    """Return the folder of a generated checkpoint, made where there is none yet."""
    # Named after its content, so that what another version left in the cache isn't taken for it.
    content = f"{config.to_json_string()}{spread}{tokenizer.build().backend_tokenizer.to_str()}"
    folder = cache_dir / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    unfinished = folder.with_suffix(".unfinished")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            _write(config, spread, unfinished)
            unfinished.rename(folder)
    return folder


def _write(config: PretrainedConfig, spread: float, folder: Path) -> None:
    config.save_pretrained(folder)
    tokenizer.save(folder)
    drawn = weights.draw(config, _SEED, spread)
    save_file(drawn, folder / "model.safetensors", metadata={"format": "pt"})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes, even by a killed process
        yield
