"""Faults planted in honest evidence: bases, adapters, what was saved and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    AdapterShare,
    AdapterUse,
    AdapterUses,
    Arrivals,
    Attached,
    BaseWeights,
    Changed,
    DrawScores,
    Generation,
    GroupScales,
    LayerFormula,
    LayerScale,
    LoadedParameter,
    LogitError,
    Merged,
    Reload,
    SavedSettings,
    Storage,
    StoredState,
    TokenizerRules,
    Trainable,
    TrainedDtypes,
    Transfer,
)

if TYPE_CHECKING:
    from tests.unit.checks.planted.table import Table

PLANTED: Table = {
    "tokenizer_rules": (
        lambda run: run.edited(TokenizerRules, others=("'Once': 190 tokens, 52 by the file",)),
        1,
        "0",
        "1 of 5 texts became other tokens than tokenizer.json gives ('Once': 190 tokens, 52 by the",
    ),
    "stored_bits": (
        lambda run: run.edited(
            Storage, layers=(("q_proj", (128, 128), 9544), ("up_proj", (256, 128), 131_072))
        ),
        32.0,
        "4.39355 within 1%, the worst of 2 layers",
        "up_proj stores 32.000 bits per weight, bnb-nf4 in theory 4.394; it wasn't quantized",
    ),
    "base_weights": (
        lambda run: run.edited(BaseWeights, layers=(("q_proj", 0.12, 0.0912),)),
        0.12,
        "0.08664 to 0.093936, for q_proj, the worst of 2 tensors",
        "q_proj of the loaded base is off its checkpoint by 0.12 of its norm; rounding it plainly",
    ),
    "base_products": (
        lambda run: run.edited(BaseWeights, products=(("up_proj", 2e-7, 0.02),)),
        0.02,
        "<= 1e-05",
        "the gradient of up_proj is off by 0.02 from that of the weight it stands for: a kernel",
    ),
    "base_parts": (
        lambda run: run.edited(BaseWeights, parts=(LoadedParameter("rotary_emb", 0.002),)),
        0.002,
        "<= 5e-05, the worst of 1",
        "rotary_emb is off by 0.002 from its definition; likely it computes in another dtype",
    ),
    "base_norms": (
        lambda run: run.edited(BaseWeights, rows=(LoadedParameter("norm", 0.004),)),
        0.004,
        "<= 1e-05, the worst of 1",
        "rows that norm gives are too large or small as a whole, as far as rounding each value by",
    ),
    "group_scales": (
        lambda run: run.edited(BaseWeights, scales=(GroupScales("q_proj", 0.05, 2e-4),)),
        0.05,
        "<= 0.020105, for a group of q_proj",
        "a group of q_proj: scales are off by +5.00%; likely a kernel that spoils the block at",
    ),
    "scale_rounding": (
        lambda run: run.edited(
            BaseWeights, scales=(GroupScales("q_proj", -0.01, -0.003, 0.0024, 256),)
        ),
        0.003,
        "<= 0.001",
        "scales of all groups together are off by -0.30%, more than chance explains; likely cut",
    ),
    "stored_states": (
        lambda run: run.edited(BaseWeights, states=(StoredState("q_proj#3", 8),)),
        8,
        ">= 20, the least of 1 kinds",
        "what q_proj#3 and its like keep needs 8 bits of 24; they were rounded to a smaller dtype",
    ),
    "logit_error": (
        lambda run: run.recording(LogitError(0.9)),
        0.9,
        "0.025 to 0.25001",
        "the quantizer loses more than it should",
    ),
    "trainable": (
        lambda run: run.edited(Trainable, actual=("q_proj.lora_A", "q_proj.lora_B", "norm")),
        3,
        "4, by name",
        "2 of 4 expected parameters don't train (up_proj.lora_A, up_proj.lora_B); "
        "1 unexpected ones do (norm); likely target modules",
    ),
    "trained_dtypes": (
        lambda run: run.edited(TrainedDtypes, state=("bfloat16",)),
        "moments bfloat16",
        "float32",
        "moments bfloat16 where float32 was promised; adapters that follow",
    ),
    "adapter_dropout": (
        lambda run: run.edited(AdapterDropout, zeroed=0),
        0.0,
        "0.1 within 0.00254558",
        "0.000% of the adapters' inputs were dropped in training, configured are 10.000%",
    ),
    "dropout_factor": (
        lambda run: run.edited(AdapterDropout, factor=1.0),
        1.0,
        "1.11111 within 1%",
        "was multiplied by 1, not by 1.1111; adapters learn at another scale",
    ),
    "dropout_independent": (
        lambda run: run.edited(AdapterDropout, alike=91_000),
        0.91,
        "0.82 within 0.00728944",
        "91.000% of the masks of two rows or two steps agree, by chance 82.000% do",
    ),
    "attached": (
        lambda run: run.edited(Attached, difference=0.02),
        0.02,
        "<= 0.00014",
        "attaching changed logits by 0.02 before any step; an adapter that doesn't start at zero",
    ),
    "base_gradient": (
        lambda run: run.recording(
            AdapterFormula((LayerFormula("q_proj", 2e-7, 2e-7, 0.5, 8, 0.0079),))
        ),
        0.0079,
        "<= 1e-05",
        "the gradient that the base of q_proj hands back is off by 0.0079",
    ),
    "adapter_start": (
        lambda run: run.edited(Attached, width=0.98),
        0.98,
        "1 within 0.0158466",
        "0.98 times as large as LoRA draws them; likely another initialization",
    ),
    "moved": (
        lambda run: run.edited(
            Changed, moved=run.evidence.all(Changed)[0].moved[:3], still=("up_proj.lora_B",)
        ),
        3,
        "4",
        "1 of 4 trained tensors never moved (up_proj.lora_B); likely a rate of 0",
    ),
    "arrived": (
        lambda run: run.edited(Arrivals, error=0.9),
        0.9,
        "<= 1e-05",
        "q_proj.lora_A in step 2 got a gradient that is off by 0.9 from what its backward passes",
    ),
    "every_step": (
        lambda run: run.edited(Arrivals, idle=("q_proj.lora_A in step 2",)),
        1,
        "0",
        "q_proj.lora_A in step 2: left as it was, although it had a gradient; likely the update",
    ),
    "frozen": (
        lambda run: run.edited(Changed, altered=("q_proj#0",)),
        1,
        "0",
        "1 of 93 frozen tensors changed (q_proj#0); likely a base that wasn't frozen",
    ),
    "adapter_formula": (
        lambda run: run.recording(
            AdapterFormula(
                (
                    LayerFormula("q_proj", 2e-7, 0.2, 0.5, 8),
                    LayerFormula("up_proj", 0.1, 0.1, 0.5, 8),
                )
            )
        ),
        0.2,
        "<= 0.0001",
        "the gradient of q_proj is off by 0.2 from its formula's; a factor that is left out",
    ),
    "adapter_scale": (
        lambda run: run.recording(
            AdapterScale((LayerScale("q_proj", 1.0), LayerScale("up_proj", 2.0)))
        ),
        0.5,
        "<= 0.02",
        "measured 1 on q_proj, configured 2; alpha, rank or its root was ignored",
    ),
    "adapter_rank": (
        lambda run: run.recording(AdapterFormula((LayerFormula("q_proj", 2e-7, 2e-7, 3e-8, 8),))),
        3e-8,
        ">= 0.0001",
        "the rows of q_proj's first factor depend on each other (least over largest singular value",
    ),
    "saved_settings": (
        lambda run: run.recording(
            SavedSettings("model", ("generation_config.json: eos_token_id 1 → null",))
        ),
        1,
        "0",
        "model/generation_config.json: eos_token_id 1 → null; who loads it gets another model",
    ),
    "reload": (
        lambda run: run.edited(Reload, max_difference=7.4),
        7.4,
        "<= 0.00013",
        "logits differ by 7.4 after saving and loading (training itself changed them by 13); "
        "a tensor wasn't saved",
    ),
    "merge": (
        lambda run: run.edited(Merged, max_difference=1.3),
        0.1,
        "<= 0.02",
        "logits differ by 1.3 after merging, 10.00% of what training changed; the merge rounds",
    ),
    "merged_share": (
        lambda run: run.edited(Merged, shares=(AdapterShare("q_proj", 0.05, 0.004, 0.0, 1e-4),)),
        0.05,
        "0.8 to 1.2, the worst of 1 layers",
        "q_proj holds its adapter 0.05 times after merging; likely the layer was left out",
    ),
    "merged_sum": (
        lambda run: run.edited(Merged, shares=(AdapterShare("q_proj", 0.95, 0.004, 0.01, 1e-4),)),
        0.01,
        "<= 0.0034, for the mean layer",
        "the mean layer lacks 1.00% of its adapter beside a sum that is rounded once; likely",
    ),
    "adapter_uses": (
        lambda run: run.edited(AdapterUses, uses=(AdapterUse("switched on again", 1.3),)),
        0.1,
        "<= 0.001",
        "logits of an adapter that was switched on again are off by 1.3, 10.00% of what training",
    ),
    "transfer": (
        lambda run: run.edited(Transfer, 1, difference=7.4),
        7.4,
        "<= 0.0001",
        "logits of the mlx-lm adapter differ by 7.4 from what its own engine gave (training "
        "changed them by 9.2); likely a scale",
    ),
    "grammatical": (
        lambda run: run.edited(Generation, stories=0),
        0.5625,
        ">= 0.7",
        "56% of the greedy or of the sampled texts are stories; likely another model or prompt",
    ),
    "cache": (
        lambda run: run.edited(Generation, 1, texts=("g1", "g2", "gx", "gy")),
        2,
        "0",
        "2 of 12 texts differ from those drawn by the definition",
    ),
    "seeded": (
        lambda run: run.edited(Generation, 4, texts=("a1", "a2", "a3", "ax")),
        1,
        "0",
        "1 texts changed under the same seed, 0 didn't under another; the seed was ignored",
    ),
    "drawn_scores": (
        lambda run: run.edited(DrawScores, gaps=(4e-7, 0.01)),
        0.01,
        "<= 0.005",
        "a score is off by 0.01 of the scores' spread at a temperature of 0.7; likely another",
    ),
    "sampled_nats": (
        lambda run: run.edited(Generation, 4, nats=13.7).edited(Generation, 5, nats=13.7),
        -3.3,
        "0 within 1.85203",
        "7 stories have -3.3 nats over the grammar's entropy; below, the temperature was ignored",
    ),
}
