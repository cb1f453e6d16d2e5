"""What comes before finalize and after it: other steps, folders that are in the way, adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tests.stack.conftest import Carry
from tests.stack.finalize_step.conftest import EXPORTED, Adapter, Finalize
from tests.stack.test_steps import TOY_DPO, TOY_SFT, both, run

from tunematrix.errors import MachineProblem, WrongSetting
from tunematrix.evidence.events import StepBegun, StepDone, StepKept

FINALIZE = {"model": {"path": "{dpo}"}, "export": {"dtype": "bfloat16", "threads": 1}}
GENERATE = {
    "model": {"path": "{finalize}"},
    "dataset": {"path": "toyworld://preferences"},
    "generation": {"max_new_tokens": 8, "threads": 1},
}


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("quantizer", "adapter"),
    [
        ("none", "continue"),
        ("bnb-nf4", "merge"),
        ("torchao-int8", "continue"),
        ("bnb-int8", "merge"),
    ],
)
def test_from_training_to_answers(carry_here: Carry, quantizer: str, adapter: str) -> None:
    """An adapter, or one over a merged one, is exported, and what was exported is asked."""
    steps = {**both(adapter=adapter), "finalize": FINALIZE, "generate": GENERATE}
    found = run(carry_here, steps, quantizer)
    assert not found.failed - {"step_loss", "step_preference"}, found.verdicts
    assert {"step_kept", "step_exported", "step_settings", "step_cache_exact"} <= {*found.verdicts}


def test_a_model_that_was_trained_in_full(carry_here: Carry) -> None:
    """It is a base of its own."""
    training = {**TOY_SFT["training"], "method": "full", "max_steps": 2, "learning_rate": 0.001}
    export = {"model": {"path": "{sft}"}, "export": {"threads": 1}}
    steps = {"sft": {**TOY_SFT, "training": training}, "finalize": export}
    found = run(carry_here, steps)
    assert not found.failed
    assert found.evidence.all(StepKept)[0].shares == ()


@pytest.fixture
def quantized(adapter: Adapter, finalize: Finalize, tmp_path: Path) -> Path:
    """A model that was exported in 4 bits."""
    finalize(adapter(), "bnb-nf4", output_dir=str(tmp_path / "quantized"))
    return tmp_path / "quantized"


@pytest.mark.parametrize("quantizer", EXPORTED)
def test_nothing_is_quantized_twice(quantized: Path, finalize: Finalize, quantizer: str) -> None:
    """Not even by the same quantizer, or to be left as it is."""
    with pytest.raises(WrongSetting, match="quantized already, by bitsandbytes") as caught:
        finalize(quantized, quantizer)
    assert caught.value.route == ("model", "path")


@pytest.mark.parametrize(("name", "step"), [("sft", TOY_SFT), ("dpo", TOY_DPO)])
def test_nothing_is_trained_over_a_quantized_export(
    quantized: Path, carry_here: Carry, name: str, step: dict[str, Any]
) -> None:
    """A step that trains has a quantizer of its own."""
    with pytest.raises(WrongSetting, match="quantized already"):
        run(carry_here, {name: {**step, "model": {"path": str(quantized)}}})


def test_models_of_other_quantizers_are_refused(quantized: Path, finalize: Finalize) -> None:
    """By the name that they give themselves."""
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "gptq"
    (quantized / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongSetting, match="is quantized by gptq"):
        finalize(quantized)


def test_the_type_of_what_is_written(adapter: Adapter, finalize: Finalize, tmp_path: Path) -> None:
    """All of it is in bfloat16, and a second export takes the place of the first."""
    for quantizer, dtype in (("bnb-nf4", "float32"), ("none", "bfloat16")):
        finalize(adapter(), quantizer, dtype=dtype, output_dir=str(tmp_path / "out"))
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())
    assert not (tmp_path / "out/unfinished").exists()


@pytest.mark.parametrize("quantizer", ["none", "bnb-nf4"])
def test_a_full_disk_leaves_what_was_there(
    adapter: Adapter, finalize: Finalize, tmp_path: Path, quantizer: str
) -> None:
    """The export of the run before is whole, and nothing unfinished is left."""
    folder = tmp_path / "out"
    finalize(adapter(), output_dir=str(folder))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(MachineProblem, match="likely the disk is full"):
        finalize(adapter(), quantizer, "fills_the_disk", output_dir=str(folder))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_dry_run_writes_nothing(adapter: Adapter, finalize: Finalize, tmp_path: Path) -> None:
    """It says what it would do."""
    found = finalize(adapter(), "bnb-nf4", steps={"dry_run": True}, output_dir=str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()
    assert found.evidence.all(StepDone)[0].says == "nothing was written"
    does = found.evidence.all(StepBegun)[0].does
    assert does == "merges the adapter in float32, stores the model as bnb-nf4, the rest in float32"
    assert "step_kept" not in found.verdicts


def _edited(source: Path, folder: Path, **settings: Any) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return folder


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"peft_type": "LOHA"}, "is of type LOHA"),
        ({"bias": "all"}, "trains biases"),
        ({"init_lora_weights": "pissa_niter_4"}, "which changes its base"),
        ({"r": None}, "can't be read as an adapter"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    adapter: Adapter, finalize: Finalize, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    """What can't be held against a formula isn't merged."""
    with pytest.raises(WrongSetting, match=says) as caught:
        finalize(_edited(adapter(), tmp_path / "other", **settings))
    assert caught.value.route == ("model", "path")


def test_a_torn_adapter_is_refused(adapter: Adapter, finalize: Finalize, tmp_path: Path) -> None:
    """With the likely cause."""
    folder = _edited(adapter(), tmp_path / "torn")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WrongSetting, match="likely an interrupted copy"):
        finalize(folder)


def test_what_it_reads_is_not_overwritten(
    adapter: Adapter, finalize: Finalize, tmp_path: Path
) -> None:
    """Nor is a model put beside an adapter, which libraries would put onto it once more."""
    folder = _edited(adapter(), tmp_path / "own")
    with pytest.raises(WrongSetting, match="is what the step reads") as caught:
        finalize(folder, output_dir=str(folder))
    assert caught.value.route == ("export", "output_dir")
    with pytest.raises(WrongSetting, match="holds an adapter"):
        finalize(adapter(), output_dir=str(folder))
