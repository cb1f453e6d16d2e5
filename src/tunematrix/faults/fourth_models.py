"""Faults of models: what their layers compute, and what is generated with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers.generation.utils import GenerationMixin

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault


@fault(
    "architecture",
    seen_by=("architectures-standard[*-toy-qwen-lora]", "architectures[*-toy-qwen-full]"),
)
def rotary_pairs_are_neighbours(config: Configuration) -> Iterator[None]:
    """Rotate neighbouring features of Qwen as pairs, as GPT-J does, and not those of two halves."""
    from transformers.models.qwen2 import modeling_qwen2 as qwen

    original = qwen.rotate_half

    def rotate(x: torch.Tensor) -> torch.Tensor:
        return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)

    def apply(q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> Any:
        half = cos.shape[-1] // 2
        cos, sin = (
            one[..., :half].repeat_interleave(2, dim=-1).unsqueeze(unsqueeze_dim)
            for one in (cos, sin)
        )
        return q * cos + rotate(q) * sin, k * cos + rotate(k) * sin

    before, qwen.apply_rotary_pos_emb, qwen.rotate_half = qwen.apply_rotary_pos_emb, apply, rotate
    yield
    qwen.apply_rotary_pos_emb, qwen.rotate_half = before, original


@fault(
    "architecture",
    seen_by=("architectures-lora[*-toy-gemma-lora]", "architectures[*-toy-gemma-full]"),
)
def local_layers_turn_by_the_global_base(config: Configuration) -> Iterator[None]:
    """Give Gemma's layers of a sliding window the rotary base of those that see everything."""
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding as Rotary

    original = Rotary.compute_default_rope_parameters

    def compute(config: Any, device: Any = None, layer_type: Any = None, **kwargs: Any) -> Any:
        return original(config, device, layer_type="full_attention", **kwargs)

    Rotary.compute_default_rope_parameters = staticmethod(compute)
    yield
    Rotary.compute_default_rope_parameters = staticmethod(original)


@fault(
    "architecture",
    seen_by=("architectures-standard[*-toy-qwen-lora]", "architectures[*-toy-qwen-full]"),
    subtle=True,
)
def epsilon_of_another_model(config: Configuration) -> Iterator[None]:
    """Compute Qwen's norms with 1e-5, as its relatives do, though its configuration says 1e-6."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

    original = Qwen2RMSNorm.__init__

    def init(self: Any, hidden_size: int, eps: float = 1e-6) -> None:
        original(self, hidden_size, eps=1e-5)

    Qwen2RMSNorm.__init__ = init
    yield
    Qwen2RMSNorm.__init__ = original


@fault(
    "architecture",
    seen_by=("architectures[*-toy-moe-full]", "architectures-lora[*-toy-moe-lora]"),
    subtle=True,
)
def router_decides_in_half(config: Configuration) -> Iterator[None]:
    """Compute the scores of experts in bfloat16, where float32 is what keeps routing stable.

    https://arxiv.org/abs/2101.03961, section 2.4.
    """
    from transformers.models.qwen3_moe import modeling_qwen3_moe as moe

    original = moe.Qwen3MoeTopKRouter.forward

    def forward(self: Any, hidden_states: torch.Tensor) -> Any:
        flat = hidden_states.reshape(-1, self.hidden_dim)
        scores = torch.nn.functional.linear(flat.bfloat16(), self.weight.bfloat16()).to(flat.dtype)
        odds = scores.softmax(-1, dtype=torch.float)
        weights, chosen = torch.topk(odds, self.top_k, dim=-1)
        if self.norm_topk_prob:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return scores, weights.to(scores.dtype), chosen

    moe.Qwen3MoeTopKRouter.forward = forward
    yield
    moe.Qwen3MoeTopKRouter.forward = original


@fault(
    "architecture",
    seen_by=("architectures-lora[*-toy-phi3-lora]", "architectures[*-toy-phi3-full]"),
)
def gate_and_input_change_places(config: Configuration) -> Iterator[None]:
    """Take the halves of Phi's fused projection the other way round: the second one is the gate."""
    from transformers.models.phi3.modeling_phi3 import Phi3MLP

    original = Phi3MLP.forward

    def forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        first, second = self.gate_up_proj(hidden_states).chunk(2, dim=-1)
        out: torch.Tensor = self.down_proj(first * self.activation_fn(second))
        return out

    Phi3MLP.forward = forward
    yield
    Phi3MLP.forward = original


@fault(
    "architecture",
    seen_by=("architectures-lora[*-toy-gemma-lora]", "architectures[*-toy-gemma-full]"),
    subtle=True,
)
def logits_capped_as_those_of_an_older_model(config: Configuration) -> Iterator[None]:
    """Cap the logits of Gemma 3 at 30, as Gemma 2 does, though its configuration says not to."""
    from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM

    original = Gemma3ForCausalLM.__init__

    def init(self: Any, config: Any) -> None:
        config.final_logit_softcapping = 30.0
        original(self, config)

    Gemma3ForCausalLM.__init__ = init
    yield
    Gemma3ForCausalLM.__init__ = original


@fault(
    "generation",
    replaces=(GenerationMixin, "_get_logits_processor"),
    seen_by=("generate[*-none]", "generate[*-hqq-int8]", "generate[*-torchao-int8]"),
)
def unlikely_tail_is_never_drawn(
    original: Any, self: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draw from the likeliest 95 %, though all was asked for: 1.0 is taken for "not set".

    As where a model's own default replaces what equals the library's.
    """
    if generation_config.top_p == 1.0:
        generation_config.top_p = 0.95
    return original(self, generation_config, *args, **kwargs)
