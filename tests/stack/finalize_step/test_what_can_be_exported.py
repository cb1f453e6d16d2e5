"""Which quantizers can be exported is found out, not believed; a plain transformers loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from tests.stack.finalize_step.conftest import EXPORTED, Adapter, Finalize
from tests.stack.serving_step import run_in
from transformers import AutoModelForCausalLM, HqqConfig, QuantoConfig

from tunematrix.configuration.steps import ExportSettings
from tunematrix.errors import WrongSetting
from tunematrix.evidence.events import ServedAnswer
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.model import Spec
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.toyworld.models import BASE

REFUSED = ("hqq-int4", "hqq-int8", "quanto-int4", "quanto-int8")
PROGRAM = """
import pickle, sys
seen = []
sys.addaudithook(lambda name, given: seen.append(given) if name == "pickle.find_class" else None)
from transformers import AutoModelForCausalLM, AutoTokenizer
seen.clear()
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = model.generate(**tokenizer("Once upon a time", return_tensors="pt"), max_new_tokens=4)
    print(type(model).__name__, len(answer[0]) > 4, len(seen))
pickle.loads(pickle.dumps(pickle.Pickler))
print("noticed" if seen else "blind")
"""


def quantizer_of(name: str) -> TorchQuantizer:
    """Return what an option stands for."""
    groups = read_groups([shipped_configs()])
    spec = Spec(test_id="one", recipe="sft", matrix=Matrix.of({"quantizer": (name,)}))
    (cell,), _ = expand(spec, groups, ["cpu"])
    found: TorchQuantizer = instantiate(compose(cell, groups).quantizer.implementation)
    return found


def test_each_quantizer_says_whether_it_can_be_exported() -> None:
    """Those of the CPU are all here, and the key's description names those that can."""
    for name in (*EXPORTED, *REFUSED):
        assert bool(quantizer_of(name).unexportable) == (name in REFUSED), name
    described = ExportSettings.model_fields["quantizer"].description or ""
    assert all(name in described for name in EXPORTED)
    assert not any(name in described for name in REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_is_refused(adapter: Adapter, finalize: Finalize, name: str) -> None:
    """Before anything is loaded, with the reason."""
    with pytest.raises(WrongSetting, match=f"{name} can't be exported: transformers") as caught:
        finalize(adapter(), name)
    assert caught.value.route == ("export", "quantizer")


def test_hqq_can_not_be_loaded() -> None:
    """Once it can be, it isn't to be refused any more."""
    with pytest.raises(NotImplementedError, match="not available yet"):
        AutoModelForCausalLM.from_pretrained(BASE, quantization_config=HqqConfig(nbits=4))


def test_quanto_can_not_be_saved(tmp_path: Path) -> None:
    """Nor this."""
    settings = QuantoConfig(weights="int8")
    model = AutoModelForCausalLM.from_pretrained(BASE, quantization_config=settings)
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path)


@pytest.fixture
def folders(adapter: Adapter, finalize: Finalize, tmp_path: Path) -> dict[str, Path]:
    """An export by each quantizer that can be."""
    for name in EXPORTED:
        assert not finalize(adapter(), name, output_dir=str(tmp_path / name)).failed
    return {name: tmp_path / name for name in EXPORTED}


@pytest.mark.nightly
def test_transformers_loads_them_alone(folders: dict[str, Path]) -> None:
    """In a process without tunematrix: no argument but the folder, and nothing is unpickled."""
    words = [sys.executable, "-c", PROGRAM, *map(str, folders.values())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=BASE)
    *said, noticed = done.stdout.splitlines()
    assert said == ["LlamaForCausalLM True 0"] * len(EXPORTED), done.stderr
    assert noticed == "noticed"


@pytest.mark.nightly
@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", ["bnb-nf4", "torchao-int8"])
def test_a_quantized_export_is_served(
    adapter: Adapter, finalize: Finalize, tmp_path: Path, name: str
) -> None:
    """From its own folder, and answers as it does in the step's own process."""
    finalize(adapter(), name, output_dir=str(tmp_path / "out"))
    ran = run_in(tmp_path / "served", model={"path": str(tmp_path / "out")})
    assert ran.error is None
    assert not ran.failed, ran.verdicts
    assert len(ran.all(ServedAnswer)) == 2
