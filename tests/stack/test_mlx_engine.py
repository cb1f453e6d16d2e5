"""The MLX engine: honest cells pass, and what mlx-lm can't do is refused by name."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest
from mlx import nn
from mlx_lm.tuner import trainer

from tunematrix.evidence.events import Held, MicroBatch, OptimizerStep
from tunematrix.stack.backends.common import Unusable
from tunematrix.stack.engines import mlx as mlx_engine
from tunematrix.stack.mlx_releases import load_trusted, no_evaluation

if TYPE_CHECKING:
    from tests.stack.conftest import ComposeSmall, RunSmall


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    "settings",
    [
        {"quantizer": "mlx-int4"},
        {"method": "dora", "quantizer": "mlx-int8", "train__gradient_checkpointing": True},
        {"method": "full", "optimizer": "sgd", "train__weight_decay": 0.1},
        {"scheduler": "cosine", "train__warmup_steps": 2, "optimizer": "adam"},
        {"scheduler": "linear", "method__implementation__dropout": 0.2},
        {"data": "chat", "method__implementation__use_rslora": True},
        {"precision": "bf16", "data": "prompt-completion", "train__max_steps": 1},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_an_honest_cell_passes(run_small: RunSmall, settings: dict[str, object]) -> None:
    """What isn't sabotaged meets every check, settings of all kinds among them."""
    assert run_small(backend="mlx", **settings).failed == set()


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """By no release of mlx-lm: those before 0.32 would run it without being asked."""
    mark = tmp_path / "mark"
    (tmp_path / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "model_file": "own.py"}')
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"a": mx.zeros(1)})
    with pytest.raises(ValueError, match=r"own\.py"):
        load_trusted(tmp_path)
    assert not mark.exists()


def old_train(model: object, train_dataset: object, val_dataset: object) -> None:
    """Take arguments as mlx-lm's trainer did before 0.31."""


def test_nothing_is_evaluated() -> None:
    """Where a release always evaluates, it gets no rows, and its evaluation comes upon no batch."""
    assert no_evaluation(trainer.train) == {}
    rows = no_evaluation(old_train)["val_dataset"]

    def batches(**settings: object) -> Iterator[object]:
        yield pytest.fail(f"a batch was asked for: {settings}")

    model = nn.Linear(1, 1)
    found = trainer.evaluate(model, rows, 1, 0, loss=batches, iterate_batches=batches)
    assert rows == [] and math.isnan(found)


def test_memory_that_others_left_is_not_held(run_small: RunSmall) -> None:
    """MLX could put a cell's arrays into larger buffers that came before it; all are counted."""
    mx.eval([mx.zeros(37 * n) for n in range(1, 300)])
    seen = run_small(backend="mlx", quantizer="mlx-int4").evidence.all(Held)
    # The state of its random numbers.
    assert [(one.when, one.beside) for one in seen] == [("before", 8), ("after", 8)]


def test_the_trainer_shows_every_step(run_small: RunSmall) -> None:
    """Each micro-batch and step is recorded once, and the first three are recomputed."""
    evidence = run_small(backend="mlx", train__accumulation=2, train__max_steps=4).evidence
    assert [b.step for b in evidence.all(MicroBatch)] == [0, 0, 1, 1, 2, 2, 3, 3]
    errors = [step.gradient_error for step in evidence.all(OptimizerStep)]
    assert [error is None for error in errors] == [False, False, False, True]


def test_mlx_lms_own_lengths_count_padding(run_small: RunSmall) -> None:
    """The one token too many in each row shows in the labels, and nowhere else."""
    ran = run_small(backend="mlx", backend__lengths="mlx-lm")
    assert ran.failed == {"labels"}
    assert ran.verdicts["labels"].measured == 0.0


@pytest.mark.nightly
def test_mlx_lms_accumulation_ignores_tokens(run_small: RunSmall) -> None:
    """A mean of means over unequal rows is neither the loss nor its gradient."""
    short = {"train__accumulation": 4, "train__batch_size": 1, "train__max_length": 256}
    ran = run_small(backend="mlx", data="unequal", **short)
    assert ran.failed == {"first_loss", "step_losses", "gradient"}


def test_mlxs_checkpointing_draws_other_dropout(run_small: RunSmall) -> None:
    """Blocks recomputed under other masks give the gradient of another loss."""
    settings = {"train__gradient_checkpointing": True, "method__implementation__dropout": 0.2}
    assert run_small(backend="mlx", **settings).failed == {"gradient"}


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
    run_small: RunSmall, settings: dict[str, object], words: str
) -> None:
    """A setting that would be ignored raises and says what is missing."""
    with pytest.raises(ValueError, match=words):
        run_small(backend="mlx", **settings)


def test_a_mac_whose_gpu_is_not_used(
    compose_small: ComposeSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the GPU is due and the CPU computes, nothing begins."""
    engine = mlx_engine.Engine(compose_small(backend="mlx")[1])
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    with pytest.raises(Unusable, match="this host's device is gpu"):
        engine.begin()
    assert engine.backend.place() == "cpu"
