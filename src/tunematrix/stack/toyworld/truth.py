"""The recorded truth: what each model of the toy world gives by its definition, in `reference/`.

`make_reference` writes it, in float64 and without any engine; recipes hold engines against it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize
from safetensors.numpy import load_file
from transformers import PreTrainedTokenizerBase

from tunematrix.errors import BadInput
from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.examples import Example, tokenize
from tunematrix.stack.engines.rules import of as rules_of
from tunematrix.stack.toyworld import corpus
from tunematrix.stack.toyworld.architectures import VOCABULARY_SIZE
from tunematrix.stack.toyworld.corpus import Form, Split
from tunematrix.stack.toyworld.grammar import Dialect

FOLDER = Path(__file__).parent / "reference"
ADAPTER_LOGITS = FOLDER / "adapters.safetensors"
PROVENANCE = FOLDER / "reference.json"

DIALECT: Dialect = "B"
SEED = 0
PROBE_ROWS, SHORT_TOKENS = 2, 24
STEPS, BATCH_SIZE = 20, 8
RATE = 0.1
"""Of plain SGD. At 0.2 the loss rises at first, and rounding grows tenfold in as many steps."""
SKETCH_WIDTH = 4
MOST_BYTES = 10_000_000
DECIMALS = 10_000
FORMATS: tuple[Format, ...] = ("peft", "mlx-lm")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """What is recorded of a model.

    Attributes:
        logits: on the probe, (tokens, vocabulary).
        sketches: of the gradient of the mean nats of probe and covering row, by parameter.
        norms: of that gradient, by parameter.
        losses: mean nats of each batch before its step of plain SGD.
    """

    logits: Floats
    sketches: Mapping[str, Floats]
    norms: Mapping[str, float]
    losses: tuple[float, ...]


def read(model: Path) -> Truth:
    """Read the truth of a model of the toy world.

    Raises:
        BadInput: none was recorded of it.
    """
    tensors = load_file(file_of(_name(model)))
    return Truth(
        logits=tensors["logits"],
        sketches=_below(tensors, "sketch."),
        norms={name: float(norm) for name, norm in _below(tensors, "norm.").items()},
        losses=tuple(float(loss) for loss in tensors["losses"]),
    )


def file_of(name: str) -> Path:
    """Return the file that holds the truth of a model, by its name in the toy world."""
    return FOLDER / f"truth-{name}.safetensors"


def _name(model: Path) -> str:
    recorded = json.loads(PROVENANCE.read_text("utf-8"))["truth"]["weights_sha256"]
    digest = sha256(model)
    names = [name for name, own in recorded.items() if own == digest]
    if not names:
        raise BadInput(
            f"{model} is no model that {FOLDER.name}/ was recorded of.\n"
            "Likely cause: model= names another one, or it was made or trained again.\n"
            "Next step: leave out model=, or record it again with nox -s toyworld."
        )
    return names[0]


@dataclass(frozen=True)
class RecordedAdapter:
    """An adapter that its own engine trained a few steps, on the dialect, and saved.

    Attributes:
        source: who saved it: "peft" or "mlx-lm".
        folder: where it lies.
        logits: what its engine gave on the short probe, (tokens, vocabulary).
    """

    source: Format
    folder: Path
    logits: Floats


def adapters(method: str) -> tuple[RecordedAdapter, ...]:
    """Return one adapter of each format, trained by a method ("lora" or "dora").

    Raises:
        BadInput: none was recorded.
    """
    logits = load_file(ADAPTER_LOGITS)
    names: Mapping[Format, str] = {source: f"{source}-{method}" for source in FORMATS}
    if not {*names.values()} <= logits.keys():
        raise BadInput(
            f"method={method} has no recorded adapters in {FOLDER.name}/.\n"
            "Likely cause: it isn't one that both PEFT and mlx-lm can train.\n"
            "Next step: give method=lora or method=dora."
        )
    return tuple(RecordedAdapter(s, FOLDER / name, logits[name]) for s, name in names.items())


def probe(tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Return the rows that logits are of: unequal in length, never trained on."""
    return _examples(tokenizer, "unequal", PROBE_ROWS, "held-out")


def gradient_rows(tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Return the rows that gradients are of: the probe, and every token in one row.

    No token is left without a gradient then, whichever forms of data have it, and the row is
    longer than any window. Padding alone is left out: an embedding may take none for it.
    """
    padding = tokenizer.convert_tokens_to_ids(str(tokenizer.pad_token))
    tokens = [token for token in range(VOCABULARY_SIZE) if token != padding]
    random.Random(SEED).shuffle(tokens)
    return [*probe(tokenizer), Example(tuple(tokens), (True,) * len(tokens))]


def short_probe(tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Return the beginning of one row, on which adapters are compared."""
    row = probe(tokenizer)[-1]
    return [Example(row.ids[:SHORT_TOKENS], row.counted[:SHORT_TOKENS])]


def batches(tokenizer: PreTrainedTokenizerBase, seed: int = SEED) -> list[list[Example]]:
    """Return the batches of plain SGD, a step each."""
    rows = _examples(tokenizer, "text", STEPS * BATCH_SIZE, "train", seed)
    return [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]


def sketch(gradient: NDArray[np.floating]) -> Floats:
    """Return a few random sums of each row's entries: no fault in one entry escapes all of them.

    Its entries are as large as the gradient's own; a vector is its own sketch.
    """
    if gradient.ndim == 1:
        return gradient.astype(np.float32)
    columns = gradient.shape[1]
    signs = np.random.default_rng(SEED).choice((-1.0, 1.0), (columns, SKETCH_WIDTH))
    return np.asarray(gradient.astype(np.float64) @ signs / np.sqrt(columns), np.float32)


def sha256(model: Path) -> str | None:
    """Return the checksum of a small checkpoint's weights in float32, to the fourth decimal.

    The last bit of what is drawn is another one where mathematical functions are another library's.
    None for what can't be a model of the toy world.
    """
    file = model / "model.safetensors"
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(deserialize(file.read_bytes())):
        if tensor["dtype"] != "F32":
            return None
        values = np.frombuffer(tensor["data"], np.float32)
        digest.update(f"{name} {tensor['shape']} ".encode())
        digest.update(np.round(values * DECIMALS).astype("<i4").tobytes())
    return digest.hexdigest()


def _examples(
    tokenizer: PreTrainedTokenizerBase, form: Form, count: int, split: Split, seed: int = SEED
) -> list[Example]:
    eos, words = str(tokenizer.eos_token), rules_of(tokenizer)
    rows: Sequence[Mapping[str, str]] = corpus.rows(form, DIALECT, count, seed, split)
    return [tokenize(words, "", corpus.supervised_texts(form, row, eos)) for row in rows]


def _below(tensors: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
