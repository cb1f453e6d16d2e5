"""What a recipe asks of an engine: examples and folders go in, events and numpy arrays come out.

A recipe is one sequence of phases for every engine; what a model is, only its engine knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import (
    AdapterShare,
    AdapterUse,
    BaseWeights,
    Device,
    Event,
    Held,
    Memory,
    Storage,
    Trainable,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.toyworld import models
from tunematrix.stack.yardsticks.independence import AdapterStart

Model: TypeAlias = Any
"""An engine's own kind of model; a recipe only hands it back."""
Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Base:
    """What is known of a checkpoint before anything is quantized or attached.

    Attributes:
        linears: names of the decoder's linear layers, the output head left out.
        shapes: of those layers, (out, in).
        parameters: names of all its parameters.
        embedding: name of what embeds its tokens; empty where the engine adapts none.
    """

    linears: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    parameters: tuple[str, ...]
    embedding: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        most: tokens at most; the end token ends a text before.
        temperature: 0 takes the likeliest token.
        seed: of the draws; cache: whether keys and values of earlier positions are kept, as the
            library does, or each token is drawn by the definition from a whole pass.
    """

    most: int
    temperature: float
    seed: int
    cache: bool

    def of_each(self, count: int) -> list[Sampling]:
        """Return how each of several texts is drawn: with a seed of its own."""
        return [replace(self, seed=self.seed + number) for number in range(count)]


@dataclass(frozen=True)
class AdapterLogits:
    """Logits on the probe, (tokens, vocabulary): of the base alone, and with what was trained."""

    base: Floats
    trained: Floats


class Engine(Protocol):
    """Loads, trains, saves and scores models of one framework on one backend.

    `backend.engine` of a configuration names the package it is found in, as `Engine`. The
    constructor takes a composed configuration and does nothing that draws random numbers.
    """

    checkpoint: Path
    """The base model's folder."""
    tokenizer: PreTrainedTokenizerBase
    adapter_format: Format
    """The one in which it saves adapters."""

    def __init__(self, config: Configuration) -> None: ...

    def begin(self) -> dict[str, Any]:
        """Seed everything and claim the device; return what now determines the figures.

        Raises:
            RuntimeError: the device isn't there; the text says what was found.
        """

    def original(self) -> Model:
        """Load the checkpoint as it is, in float32."""

    def describe(self, model: Model) -> Base:
        """Read a `Base` off an original."""

    def load(self, base: Base) -> Model:
        """Load the checkpoint as the configured quantizer stores it."""

    def storage(self, model: Model, base: Base) -> Storage:
        """Count the bytes of a freshly loaded model: some libraries repack at the first pass."""

    def weights(self, model: Model, base: Base) -> BaseWeights:
        """Hold a freshly loaded base, layer by layer, against the tensors in its checkpoint."""

    def locate(self, model: Model, examples: Sequence[Example]) -> Device:
        """Say where parameters are, and where a forward pass over `examples` computes."""

    def logits(
        self, model: Model, examples: Sequence[Example], *, gradient: bool = False
    ) -> Floats:
        """Return logits at real positions, (tokens, vocabulary), in evaluation mode.

        `gradient` keeps autograd on, for libraries that repack weights without it.
        """

    def loss(self, model: Model, examples: Sequence[Example]) -> tuple[float, int]:
        """Return (mean nats per counted token, counted tokens) in evaluation mode."""

    def attach(self, model: Model, base: Base) -> Model:
        """Make a loaded model trainable by the configured method."""

    def trainable(self, model: Model, base: Base) -> Trainable:
        """Compare what would be trained with what the method must train."""

    def adapter_start(self, model: Model, base: Base) -> AdapterStart:
        """Measure the first factors of all adapters before training."""

    def memory_beside(self, model: Model, when: str) -> Held:
        """Count what is in memory beside a model, "before" training it or "after"."""

    def train(
        self, model: Model, base: Base, data: Data, events: EventLog, output: Path
    ) -> Iterator[Event]:
        """Train in place under all always-on meters; the trainer's own files go to `output`.

        Return what there is to measure of the trained model, beside its base and its method's
        formulas. It is measured as it is read, which has to be before anything else is done with
        the model.
        """

    def save(self, model: Model, folder: Path) -> None:
        """Write what was trained into `folder`."""

    def dtypes(self, model: Model) -> Mapping[str, Any]:
        """Return the framework's dtype of each parameter, by name."""

    def restore(
        self, base: Base, folder: Path, dtypes: Mapping[str, Any] = MappingProxyType({})
    ) -> Model:
        """Load what `save` wrote onto a freshly loaded base, parameters in `dtypes` if named.

        Libraries have their own view of the dtype to load an adapter in.
        """

    def merge(self, base: Base, adapter: Path, folder: Path) -> Model:
        """Merge a saved adapter into a fresh base, save that into `folder`, load it from there."""

    def shares(self, model: Model, base: Base, adapter: Path) -> tuple[AdapterShare, ...]:
        """Measure how much of a saved adapter is in each layer of what it was merged into."""

    def uses(
        self,
        base: Base,
        adapter: Path,
        dtypes: Mapping[str, Any],
        probe: Sequence[Example],
        due: AdapterLogits,
    ) -> Iterator[AdapterUse]:
        """Do with a saved adapter, loaded in `dtypes`, what people do, and compare with `due`."""

    def ways(self, base: Base, folder: Path, target: Path) -> Mapping[str, Callable[[], Model]]:
        """Return each way in which users load what `save` wrote, by its name.

        `target` is the folder for what one of them merges and saves.
        """

    def dequantized(self, base: Base) -> Model:
        """Load a plain model with the weights that the quantizer's stand for."""

    def allocator_peak(self, base: Base, data: Data, output: Path) -> Memory:
        """Train a fresh model for a few steps and return the allocator's peak meanwhile."""

    def generate(
        self, model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue prompts; return each one's new tokens, the end token included if it came.

        All are drawn together with the seed of `sampling`; where an engine has to take them one
        by one, each draws with the next seed.
        """

    def gradients(self, model: Model, examples: Sequence[Example]) -> Mapping[str, Floats]:
        """Return the gradient of the mean nats for each parameter of an original, by its name."""

    def descend(
        self, model: Model, batches: Sequence[Sequence[Example]], rate: float
    ) -> tuple[float, ...]:
        """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""


@runtime_checkable
class ShowsScores(Protocol):
    """An engine whose library says by which scores it draws: its backend doesn't hide `scores`."""

    def drawn(
        self, model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[tuple[list[int], Floats]]:
        """Continue prompts; return each one's new tokens, and the scores it drew them by.

        Scores are (tokens, vocabulary).
        """


def open_checkpoint(config: Configuration) -> tuple[Path, PreTrainedTokenizerBase]:
    """Find the folder of the configured model, and load its tokenizer.

    Raises:
        BadInput: the folder lacks what a checkpoint must have.
    """
    path = config.model.path
    folder = models.resolve(path, Path(config.cache_dir))
    # AutoTokenizer puts Qwen2's rules in the place of those that the toy world's file has.
    loader = PreTrainedTokenizerFast if path.startswith(models.SCHEME) else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if config.train.padding == "eos":
        tokenizer.pad_token = tokenizer.eos_token
    return folder, tokenizer
