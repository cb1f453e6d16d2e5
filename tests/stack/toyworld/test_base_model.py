from __future__ import annotations

import hashlib
import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from tunematrix.stack.toyworld import corpus, grammar, models, train_base
from tunematrix.stack.toyworld.grammar import Dialect


@pytest.fixture(scope="module")
def base() -> LlamaForCausalLM:
    """The shipped model, in evaluation mode."""
    return LlamaForCausalLM.from_pretrained(models.BASE).eval()


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    """The shipped tokenizer."""
    return AutoTokenizer.from_pretrained(models.BASE)


@pytest.mark.parametrize(("dialect", "lowest", "highest"), [("A", -0.02, 0.08), ("B", 4.0, 12.0)])
def test_base_speaks_a_and_not_b(
    base: LlamaForCausalLM,
    words: PreTrainedTokenizerFast,
    dialect: Dialect,
    lowest: float,
    highest: float,
) -> None:
    """Held-out loss over the floor, in nats per token: next to nothing on A, much on B."""
    held_out = corpus.stories(dialect, 64, 1, "held-out")
    loss, tokens = train_base.evaluate(base, words, held_out)
    assert lowest < loss - corpus.floor(dialect, held_out) / tokens < highest


def test_most_generated_texts_are_stories_of_a(
    base: LlamaForCausalLM, words: PreTrainedTokenizerFast
) -> None:
    """Sampled text is scored by the grammar; both endings come up, as the fair coin wants."""
    torch.manual_seed(0)
    prompts = words(["Once"] * 64, return_tensors="pt")
    generated = base.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=80)
    texts = words.batch_decode(generated, skip_special_tokens=True)
    found = [choices for text in texts if (choices := grammar.choices("A", text))]
    assert len(found) > 0.8 * len(texts)
    assert 0.25 < sum(choices["ending"] == "shared" for choices in found) / len(found) < 0.75


def test_provenance_tells_of_the_shipped_weights() -> None:
    """The recorded checksum is that of the file beside it, and the command remakes it."""
    provenance = json.loads((models.BASE / "provenance.json").read_text("utf-8"))
    weights = (models.BASE / "model.safetensors").read_bytes()
    assert provenance["sha256"] == hashlib.sha256(weights).hexdigest()
    assert provenance["command"].startswith("python -m tunematrix.stack.toyworld.train_base")
    assert 0 < provenance["loss"] - provenance["floor"] < 0.08


def test_training_again_gives_the_same_weights(words: PreTrainedTokenizerFast) -> None:
    """Bit by bit, over a few steps, with one seed; another seed gives others."""

    def trained(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = LlamaForCausalLM(models.base_config())
        train_base.train(model, words, steps=5, seed=seed)
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    first = trained(0)
    assert torch.equal(first, trained(0))
    assert not torch.equal(first, trained(1))
