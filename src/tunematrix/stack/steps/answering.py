"""A model of PyTorch that answers prompts, and is asked the same in other ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.stack.engines.common import Floats, Sampling
from tunematrix.stack.engines.torch.generating import Decoder
from tunematrix.stack.engines.torch.scoring import evaluating
from tunematrix.stack.steps import opening
from tunematrix.stack.steps.asking import Alone, Asking, Library, warn_of_presets
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.prompts import Prompt
from tunematrix.stack.yardsticks import perplexity

_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class TorchAsking(Asking):
    """A model of PyTorch, on its device, that answers prompts.

    Attributes:
        most: prompts that are answered together.
    """

    model: nn.Module
    decoder: Decoder
    most: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The decoder's."""
        return self.decoder.tokenizer

    @property
    def ends(self) -> Set[int]:
        """The decoder's."""
        return self.decoder.ends

    @property
    def batch(self) -> int:
        """As its user says."""
        return self.most

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """Continue prompts side by side."""
        return self.decoder.generate(cast("PreTrainedModel", self.model), prompts, sampling)

    def alone(self, prompt: Prompt, most: int) -> Alone:
        """Ask one prompt through the library's own loop."""
        model = cast("PreTrainedModel", self.model)
        tokens, cached = self.decoder.likeliest(model, prompt.ids, most)
        ids = (*prompt.ids, *tokens[:-1])
        return Alone(tokens, cached.cpu().numpy(), self._logits(ids, len(tokens)))

    def logits(self, prompt: Prompt, last: int) -> Floats:
        """Return those of a prompt, kept in the machine's own memory."""
        return self._logits(prompt.ids, last)

    def with_adapter(self, adapter: Path) -> TorchAsking:
        """Put PEFT's layers in the place of the model's own."""
        model = cast("PreTrainedModel", self.model)
        try:
            adapted = PeftModel.from_pretrained(model, str(adapter))
        except opening.UNREADABLE as error:
            raise opening.unreadable(str(adapter), error) from None
        return replace(self, model=adapted.eval())

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Switch it off, as PEFT does."""
        assert isinstance(self.model, PeftModel)
        with self.model.disable_adapter():
            yield

    def _logits(self, ids: Sequence[int], last: int) -> Floats:
        whole = torch.tensor([[*ids]], device=self.decoder.device)
        with evaluating(self.model), torch.no_grad():
            out = self.model(
                input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False
            )
            found: Floats = out.logits[0, -last:].float().cpu().numpy()
            return found


def open_asking(
    source: opening.ModelSource, tokenizer: PreTrainedTokenizerBase, batch: int, job: StepJob
) -> TorchAsking:
    """Load the model below an adapter, to be asked as its user says and no other way."""
    try:
        model = opening.load(replace(source, adapter=None), job.config)
    except opening.UNREADABLE as error:
        raise opening.unreadable(str(source.path), error) from None
    assert isinstance(model, PreTrainedModel)
    _settle(model, tokenizer, job)
    ends = getattr(model.generation_config, "eos_token_id", None)
    more = (ends,) if isinstance(ends, int) else tuple(ends or ())
    return TorchAsking(model, Decoder(tokenizer, job.device, more_ends=more), batch)


def _settle(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, job: StepJob) -> None:
    """Let nothing decide how answers are chosen but what is asked for."""
    own = model.generation_config
    warn_of_presets(own, job)
    given: dict[str, Any] = {} if own is None else own.to_diff_dict()
    kept = {name: given[name] for name in _ENDS if given.get(name) is not None}
    if tokenizer.pad_token_id is not None:
        kept["pad_token_id"] = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(**kept)


def judge(folder: Path, job: StepJob) -> perplexity.Scorer:
    """Load a reference model onto the step's device."""
    return perplexity.load(str(folder), job.device)


LIBRARY = Library(open_asking, "peft", judge)
"""PyTorch, with transformers and PEFT."""
