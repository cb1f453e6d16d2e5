"""The MLX engine: it agrees with PyTorch's, and each of its meters sees the fault it is for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.optimizers import AdamW
from mlx.utils import tree_map
from mlx_lm.tuner import trainer

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import Finished, Memory, MicroBatch, OptimizerStep
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.engines import mlx as mlx_engine
from tunematrix.stack.engines import torch as torch_engine
from tunematrix.stack.engines.common import Engine, Sampling
from tunematrix.stack.engines.mlx import loading, methods, optimizers
from tunematrix.stack.quantizers.mlx import Affine
from tunematrix.stack.recipes import sft
from tunematrix.stack.recipes.data import prepare

SMALL: Mapping[str, object] = {
    "train.max_steps": 4,
    "train.batch_size": 2,
    "meters.held_out_rows": 8,
}
LOGITS = 1e-5
GRADIENTS = 1e-4
"""Of each parameter's largest entry; float32 on both sides leaves 1e-6."""


@dataclass(frozen=True)
class Ran:
    """A cell that has run in this process, and what the checks said."""

    evidence: Evidence
    failed: Mapping[str, float | str | None]
    """Name of each check that failed to what it measured."""


Configure = Callable[..., tuple[Spec, dict[str, Any]]]
RunCell = Callable[..., Ran]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Compose the cell of these axes and settings, on a backend."""
    groups = read_groups([shipped_configs()])

    def make(
        axes: Mapping[str, str], backend: str = "mlx", **settings: object
    ) -> tuple[Spec, dict[str, Any]]:
        overrides = {key.replace("__", "."): value for key, value in settings.items()}
        data = {
            "test_id": "tiny",
            "recipe": "sft",
            "matrix": {"backend": [backend], **{a: [option] for a, option in axes.items()}},
            "overrides": {**SMALL, **overrides},
        }
        spec = Spec.model_validate(data)
        (cell,), _ = expand(spec, groups, [backend])
        return spec, {**compose(cell, groups.roots), "cache_dir": str(tmp_path / "cache")}

    return make


@pytest.fixture
def run_cell(configure: Configure, tmp_path: Path) -> RunCell:
    """Run a tiny cell by the real recipe and the real trainer, and judge it."""

    def run(**settings: object) -> Ran:
        axes = {str(a): str(settings.pop(a)) for a in list(settings) if "__" not in a}
        spec, config = configure({"method": "lora", **axes}, **settings)
        log = tmp_path / f"events-{len(list(tmp_path.iterdir()))}.jsonl"
        with EventLog(log) as events:
            sft.run(config, events, tmp_path / log.stem)
            events.write(Finished())
        end = Exit(0, None, False, (), 1.0, isolation="foreground")
        evidence = Evidence(exit=end, events=read_events(log), stdout="", stderr="", files=())
        verdicts = judge(evidence, Claim(spec, config))
        return Ran(evidence, {v.name: v.measured for v in verdicts if v.outcome == "failed"})

    return run


def open_both(configure: Configure) -> tuple[Engine, Engine]:
    """Open MLX's engine and PyTorch's on the same checkpoint."""
    engines: list[Engine] = []
    for package, backend in ((mlx_engine, "mlx"), (torch_engine, "cpu")):
        _, config = configure({"method": "full"}, backend)
        engines.append(package.Engine(config))
        engines[-1].begin()
    return engines[0], engines[1]


def test_logits_and_loss_agree_with_pytorch(configure: Configure) -> None:
    """The same safetensors give the same logits, and so the same loss over the same tokens."""
    ours, theirs = open_both(configure)
    held_out = prepare(configure({"method": "full"})[1], ours.tokenizer).held_out
    model, other = ours.original(), theirs.original()
    logits = ours.logits(model, held_out)
    assert np.abs(logits - theirs.logits(other, held_out)).max() < LOGITS * np.abs(logits).max()
    (loss, tokens), (loss_there, tokens_there) = (
        ours.loss(model, held_out),
        theirs.loss(other, held_out),
    )
    assert tokens == tokens_there
    assert loss == pytest.approx(loss_there, rel=1e-5)


def test_gradients_and_descent_agree_with_pytorch(configure: Configure) -> None:
    """Each parameter of an original has the same gradient; SGD makes the same of it."""
    ours, theirs = open_both(configure)
    examples = prepare(configure({"method": "full"})[1], ours.tokenizer).examples[:4]
    model, other = ours.original(), theirs.original()
    found, wanted = ours.gradients(model, examples), theirs.gradients(other, examples)
    assert set(found) == set(wanted) == set(ours.describe(model).parameters)
    for name, gradient in wanted.items():
        error = np.abs(found[name] - gradient).max()
        assert error < GRADIENTS * np.abs(gradient).max(), name
    batches = [examples[:2], examples[2:]]
    trace, trace_there = ours.descend(model, batches, 0.1), theirs.descend(other, batches, 0.1)
    assert trace == pytest.approx(trace_there, rel=1e-4)


def test_a_base_is_described_as_pytorch_describes_it(configure: Configure) -> None:
    """Layers, their shapes and all parameters carry the same names, in whatever order."""
    ours, theirs = open_both(configure)
    base, other = ours.describe(ours.original()), theirs.describe(theirs.original())
    assert dict(zip(base.linears, base.shapes, strict=True)) == dict(
        zip(other.linears, other.shapes, strict=True)
    )
    assert set(base.parameters) == set(other.parameters)


def test_generation_needs_no_cache_to_say_the_same(configure: Configure) -> None:
    """With the cache, without it, and in PyTorch, the likeliest tokens are the same ones."""
    ours, theirs = open_both(configure)
    model, prompt = ours.original(), ours.tokenizer("Once upon a time", return_tensors=None)
    ids = list(prompt["input_ids"])
    greedy = [Sampling(most=24, temperature=0.0, seed=0, cache=cache) for cache in (True, False)]
    cached, whole = (ours.generate(model, ids, sampling) for sampling in greedy)
    assert cached == whole == theirs.generate(theirs.original(), ids, greedy[0])
    drawn = [Sampling(most=24, temperature=2.0, seed=seed, cache=True) for seed in (1, 1, 2)]
    first, again, other = (ours.generate(model, ids, sampling) for sampling in drawn)
    assert first == again != other


@pytest.mark.parametrize(
    "settings",
    [
        {"quantizer": "mlx-int4"},
        {"method": "dora", "quantizer": "mlx-int8", "train__gradient_checkpointing": True},
        {"method": "full", "optimizer": "sgd", "train__weight_decay": 0.1},
        {"scheduler": "cosine", "train__warmup_steps": 2, "optimizer": "adam"},
        {"scheduler": "linear", "method__implementation__dropout": 0.2},
        {"data": "chat", "method__implementation__use_rslora": True},
        {"precision": "bf16", "data": "prompt-completion"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_an_honest_cell_passes(run_cell: RunCell, settings: dict[str, object]) -> None:
    """What isn't sabotaged meets every check, settings of all kinds among them."""
    assert run_cell(**settings).failed == {}


def test_the_trainer_shows_every_step(run_cell: RunCell) -> None:
    """Each micro-batch and step is recorded once, and the first three are recomputed."""
    evidence = run_cell(train__accumulation=2).evidence
    assert [b.step for b in evidence.all(MicroBatch)] == [0, 0, 1, 1, 2, 2, 3, 3]
    errors = [step.gradient_error for step in evidence.all(OptimizerStep)]
    assert [error is None for error in errors] == [False, False, False, True]


def test_mlx_lms_own_lengths_count_padding(run_cell: RunCell) -> None:
    """The one token too many in each row shows in the labels, and nowhere else."""
    assert run_cell(backend__lengths="mlx-lm").failed == {"labels": 0.0}


def test_mlx_lms_accumulation_ignores_tokens(run_cell: RunCell) -> None:
    """A mean of means over unequal rows is neither the loss nor its gradient."""
    ran = run_cell(
        data="unequal", train__accumulation=4, train__batch_size=1, train__max_length=256
    )
    assert set(ran.failed) == {"first_loss", "step_losses", "gradient"}


def test_mlxs_checkpointing_draws_other_dropout(run_cell: RunCell) -> None:
    """Blocks recomputed under other masks give the gradient of another loss."""
    settings = {"train__gradient_checkpointing": True, "method__implementation__dropout": 0.2}
    assert set(run_cell(**settings).failed) == {"gradient"}


def replace(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wrap: Any) -> None:
    """Put `wrap(original)` in the place of an attribute of the real library."""
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


def label_left_out(patch: pytest.MonkeyPatch) -> None:
    """Let the loss skip each row's first prediction."""
    replace(
        patch,
        trainer,
        "default_loss",
        lambda loss: lambda model, batch, lengths: loss(model, batch, lengths + mx.array([2, 0])),
    )


def loss_halved(patch: pytest.MonkeyPatch) -> None:
    """Let the loss divide by twice its tokens."""

    def wrap(loss: Any) -> Any:
        def halved(*args: Any) -> tuple[mx.array, mx.array]:
            value, tokens = loss(*args)
            return value / 2, tokens

        return halved

    replace(patch, trainer, "default_loss", wrap)


def gradient_scaled(patch: pytest.MonkeyPatch) -> None:
    """Scale the gradients by 1.01 on their way to the optimizer."""

    def wrap(apply: Any) -> Any:
        return lambda self, gradients, parameters: apply(
            self, tree_map(lambda gradient: 1.01 * gradient, gradients), parameters
        )

    replace(patch, AdamW, "apply_gradients", wrap)


def betas_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let AdamW take 0.99 for its second beta."""

    def wrap(init: Any) -> Any:
        return lambda self, rate, **settings: init(self, rate, **{**settings, "betas": [0.9, 0.99]})

    replace(patch, AdamW, "__init__", wrap)


def rate_ignored(patch: pytest.MonkeyPatch) -> None:
    """Keep the rate at its peak under any schedule."""
    patch.setattr(optimizers, "schedule", lambda config: config["train"]["learning_rate"])


def rate_not_applied(patch: pytest.MonkeyPatch) -> None:
    """Move parameters by half of what the stated rate gives."""

    def wrap(apply: Any) -> Any:
        return lambda self, gradient, parameter, state: (
            parameter + (apply(self, gradient, parameter, state) - parameter) / 2
        )

    replace(patch, AdamW, "apply_single", wrap)


def frozen_weight_nudged(patch: pytest.MonkeyPatch) -> None:
    """Change one frozen weight by a millionth, once training is over."""

    def wrap(train: Any) -> Any:
        def nudged(**arguments: Any) -> None:
            train(**arguments)
            layer = arguments["model"].layers[0].self_attn.q_proj.linear
            layer.weight = layer.weight * (1 + 1e-6)

        return nudged

    replace(patch, trainer, "train", wrap)


def adapter_frozen(patch: pytest.MonkeyPatch) -> None:
    """Leave one adapter out of training."""

    def wrap(attach: Any) -> Any:
        def attached(self: methods.Lora, model: Any) -> None:
            attach(self, model)
            model.layers[0].mlp.up_proj.freeze()

        return attached

    replace(patch, methods.Lora, "attach", wrap)


def scale_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let every adapter have mlx-lm's default scale of 20."""

    def wrap(convert: Any) -> Any:
        return lambda model, layers, config, **rest: convert(
            model, layers, {**config, "scale": 20.0}, **rest
        )

    replace(patch, methods, "linear_to_lora_layers", wrap)


def checkpointing_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let mlx-lm's gradient checkpointing do nothing."""
    patch.setattr(trainer, "grad_checkpoint", lambda layer: None)


def nothing_quantized(patch: pytest.MonkeyPatch) -> None:
    """Let the quantizer return the model as it came."""
    patch.setattr(Affine, "store", lambda self, model, config: (model, config))


def nothing_cast(patch: pytest.MonkeyPatch) -> None:
    """Load weights in the checkpoint's float32, whatever was asked for."""
    replace(
        patch,
        loading,
        "load_model",
        lambda load: lambda *args, **settings: _uncast(*load(*args, **settings)),
    )


def _uncast(model: Any, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model.set_dtype = lambda dtype: None
    return model, config


def tensor_not_saved(patch: pytest.MonkeyPatch) -> None:
    """Save all tensors but one."""

    def wrap(save: Any) -> Any:
        return lambda path, tensors: save(path, dict(list(tensors.items())[:-1]))

    replace(patch, mx, "save_safetensors", wrap)


FAULTS: Mapping[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, object], set[str]]] = {
    "label left out": (label_left_out, {}, {"labels"}),
    "loss halved": (loss_halved, {}, {"first_loss", "step_losses", "gradient"}),
    "gradient scaled": (gradient_scaled, {}, {"gradient"}),
    "betas ignored": (betas_ignored, {}, {"optimizer_update"}),
    "rate ignored": (rate_ignored, {"scheduler": "linear"}, {"learning_rate"}),
    "rate not applied": (rate_not_applied, {}, {"optimizer_update"}),
    "frozen weight nudged": (frozen_weight_nudged, {}, {"frozen"}),
    "adapter frozen": (adapter_frozen, {}, {"trainable", "adapter_scale"}),
    "scale ignored": (scale_ignored, {}, {"adapter_scale", "adapter_formula", "reload"}),
    "checkpointing ignored": (
        checkpointing_ignored,
        {"train__gradient_checkpointing": True},
        {"gradient_checkpointing"},
    ),
    "nothing quantized": (
        nothing_quantized,
        {"quantizer": "mlx-int8"},
        {"stored_bits", "base_weights", "logit_error"},
    ),
    "nothing cast": (nothing_cast, {"precision": "bf16"}, {"stored_bits", "precision"}),
    "tensor not saved": (tensor_not_saved, {}, {"reload"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, run_cell: RunCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sabotaged cell runs to its end, and fails in what the fault touches alone."""
    sabotage, settings, checks = FAULTS[name]
    sabotage(monkeypatch)
    assert set(run_cell(**settings).failed) == checks


def test_a_transient_allocation_shows(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MB that live for a moment while training are in the allocator's peak, once."""
    size = 100_000_000
    _, config = configure({"method": "lora"})

    def peak() -> Memory:
        engine = mlx_engine.Engine(config)
        engine.begin()
        base = engine.describe(engine.original())
        return engine.allocator_peak(base, prepare(config, engine.tokenizer), tmp_path)

    honest = peak()

    def wrap(batches: Any) -> Any:
        def wasteful(*args: Any, **kwargs: Any) -> Any:
            for batch in batches(*args, **kwargs):
                mx.eval(mx.zeros((size,), dtype=mx.uint8) + 1)
                yield batch

        return wasteful

    replace(monkeypatch, trainer, "iterate_batches", wrap)
    assert 0 < honest.bytes < size / 2
    assert peak().bytes == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train__max_grad_norm": 1.0}, "clips nothing"),
        ({"train__padding": "eos"}, "always pads with token 0"),
        ({"train__weight_decay": 0.1, "optimizer": "adam"}, "Adam knows none"),
        ({"method__implementation__modules_to_save": ["model.norm"]}, "adapters alone"),
    ],
)
def test_what_mlx_lm_cannot_do_is_refused(
    run_cell: RunCell, settings: dict[str, object], words: str
) -> None:
    """A setting that would be ignored raises and says what is missing."""
    with pytest.raises(ValueError, match=words):
        run_cell(**settings)


def test_a_mac_whose_gpu_is_not_used(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the GPU is due and the CPU computes, nothing begins."""
    engine = mlx_engine.Engine(configure({"method": "lora"})[1])
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    with pytest.raises(RuntimeError, match="this host's device is gpu"):
        engine.begin()
    assert engine.backend.place() == "cpu"
