"""events.jsonl: what is written comes back the same, and nothing secret is written."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import get_args

import pytest

from tunematrix.errors import BadInput, Obstacle
from tunematrix.evidence.events import (
    AdapterScale,
    AttentionKernels,
    BaseWeights,
    Compute,
    Determinants,
    Device,
    Event,
    Generation,
    LayerScale,
    LoggedStep,
    Memory,
    OptimizerStep,
    Parity,
    Phase,
    Raised,
    Storage,
    StoredLayer,
    Trainable,
)
from tunematrix.evidence.log import EventLog, read_events

EVENTS: tuple[Event, ...] = (
    Device({"cpu": 12}, ("cpu", "meta")),
    Storage((StoredLayer("q_proj", (128, 64), 8192), StoredLayer("k_proj", (64, 64), 4096)), 12288),
    AdapterScale((LayerScale("q_proj", 1.0), LayerScale("k_proj", 2.0))),
    OptimizerStep(0, (1e-3, 3e-4), 0.5, None),
    OptimizerStep(1, (), 2, 1e-7),
    LoggedStep(1, None),
    Compute(("bfloat16",), ("float32",)),
    Memory("stored", 12288, "exact"),
    Generation(None, True, ("a", "b"), 2, math.inf, 17.0),
    Parity("trace", 1e-6, "step 3", {"01": 8.5, "02": 6}),
    Determinants({"list": [1, [2, None]], "text": "ü – \u2028"}),
)


def _log(path: Path, *events: Event, **environ: str) -> Path:
    with EventLog(path, environ) as log:
        for event in events:
            log.write(event)
    return path


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    """Nested tuples, empty ones, None, and whole numbers in float fields."""
    back = read_events(_log(tmp_path / "events.jsonl", *EVENTS))
    assert back == EVENTS
    assert isinstance(back[4].gradient_norm, float)  # type: ignore[union-attr]  # by position
    (storage,) = (event for event in back if isinstance(event, Storage))
    assert storage.layers[0].shape == (128, 64)


def test_each_line_names_its_kind(tmp_path: Path) -> None:
    """Other programs can read the file too."""
    path = _log(tmp_path / "events.jsonl", Phase("train", 1.5))
    assert json.loads(path.read_text()) == {"kind": "Phase", "name": "train", "seconds": 1.5}


def test_not_a_number_and_infinity_survive(tmp_path: Path) -> None:
    """A diverged loss is evidence, so it has to arrive."""
    path = _log(tmp_path / "events.jsonl", LoggedStep(1, math.nan), LoggedStep(2, -math.inf))
    nan, infinity = (event.loss for event in read_events(path) if isinstance(event, LoggedStep))
    assert nan is not None and math.isnan(nan)
    assert infinity == -math.inf


def test_every_kind_can_be_read(tmp_path: Path) -> None:
    """No event has a field of a type that the reader doesn't know."""
    samples = {"str": "a", "float": 0.5, "int": 3, "bool": True}
    samples |= {
        "float | None": None,
        "int | None": None,
        "AttentionKernels | None": AttentionKernels(2, 2),
        "tuple[int, int] | None": (3, 4),
        "BaseWeights": BaseWeights((), (), ()),
        "Obstacle": Obstacle("a GPU", "none", "buy one", present=True),
    }
    events = []
    for kind in get_args(Event):
        values = {field.name: _sample(field.type, samples) for field in dataclasses.fields(kind)}
        events.append(kind(**values))
    assert read_events(_log(tmp_path / "events.jsonl", *events)) == tuple(events)


def _sample(hint: object, samples: dict[str, object]) -> object:
    text = str(hint)
    if text in samples:
        return samples[text]
    if text.startswith("dict"):
        return {}
    if text.startswith("tuple[float"):
        return (0.5, 1.5)
    assert text.startswith("tuple"), text
    return ()


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    """A cell that is killed next loses nothing."""
    log = EventLog(tmp_path / "events.jsonl", {})
    log.write(Phase("load", 1.0))
    assert read_events(tmp_path / "events.jsonl") == (Phase("load", 1.0),)
    log.__exit__(None, None, None)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A cell that was killed while it wrote still has its other events."""
    path = _log(tmp_path / "events.jsonl", Phase("load", 1.0), Phase("train", 2.0))
    path.write_bytes(path.read_bytes()[:-5])
    assert read_events(path) == (Phase("load", 1.0),)
    path.write_bytes(b"")
    assert read_events(path) == ()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "JSONDecodeError"),
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"name": "train", "seconds": 1}', "'kind'"),
        ('{"kind": "Fase", "name": "train", "seconds": 1}', "'Fase'"),
        ('{"kind": "Phase", "name": "train"}', "seconds"),
        ('{"kind": "Phase", "name": "train", "seconds": 1, "hours": 2}', "no field hours"),
        ('{"kind": "Phase", "name": "train", "seconds": "1"}', "expected <class 'float'>"),
        ('{"kind": "Phase", "name": "train", "seconds": true}', "expected <class 'float'>"),
        ('{"kind": "AdapterScale", "layers": [["q_proj", 2.0, 3.0]]}', "zip"),
    ],
)
def test_any_other_malformed_line_is_an_error(tmp_path: Path, line: str, complaint: str) -> None:
    """The text says file, line and what is wrong."""
    path = _log(tmp_path / "events.jsonl", Phase("load", 1.0))
    with path.open("a") as file:
        file.write(line + "\n")
    _log(path, Phase("save", 1.0))
    with pytest.raises(BadInput, match=r"events\.jsonl:2: not an event") as raised:
        read_events(path)
    assert complaint in str(raised.value)


def test_secrets_are_masked_in_every_string(tmp_path: Path) -> None:
    """Wherever they stand: messages, keys, nested lists, inside a longer secret's value."""
    environ = {
        "HF_TOKEN": "hf_abcdef",
        "WANDB_API_KEY": "hf_abcdef-longer",
        "db_password": "pass word",
        "CLIENT_SECRET": "s3cr3t",
    }
    path = _log(
        tmp_path / "events.jsonl",
        Raised("load", ("OSError",), "401 for hf_abcdef at https://u:pass word@host"),
        Determinants({"s3cr3t": 1, "hf_abcdef": ["hf_abcdef-longer", {"deep": "s3cr3t"}]}),
        **environ,
    )
    text = path.read_text()
    assert [value for value in environ.values() if value in text] == []
    assert read_events(path) == (
        Raised("load", ("OSError",), "401 for <HF_TOKEN> at https://u:<db_password>@host"),
        Determinants(
            {"<CLIENT_SECRET>": 1, "<HF_TOKEN>": ["<WANDB_API_KEY>", {"deep": "<CLIENT_SECRET>"}]}
        ),
    )


def test_harmless_variables_mask_nothing(tmp_path: Path) -> None:
    """A setting named like a secret must not tear holes into the text."""
    event = Determinants({"text": "false, 1, tokenizers and /home/user"})
    environ = {"TOKENIZERS_PARALLELISM": "tokenizers", "KEY_A": "1", "TOKEN": "", "PATH": "/home"}
    assert read_events(_log(tmp_path / "events.jsonl", event, **environ)) == (event,)


def test_phases_are_measured_and_nest(tmp_path: Path) -> None:
    """Inner phases end first, and the outer name stands again."""
    with EventLog(tmp_path / "events.jsonl", {}) as log:
        with log.phase("train"):
            with log.phase("evaluate"):
                assert log.current_phase == "evaluate"
            assert log.current_phase == "train"
        assert log.current_phase == ""
    phases = read_events(tmp_path / "events.jsonl")
    assert [event.name for event in phases if isinstance(event, Phase)] == ["evaluate", "train"]


def test_a_phase_that_raises_has_not_ended(tmp_path: Path) -> None:
    """Its name stands for Raised, and no Phase claims that it was done."""
    with EventLog(tmp_path / "events.jsonl", {}) as log:
        with pytest.raises(OSError, match="gone"), log.phase("train"):
            raise OSError("gone")
        assert log.current_phase == "train"
    assert read_events(tmp_path / "events.jsonl") == ()


def test_what_json_cannot_express_is_refused(tmp_path: Path) -> None:
    """A tensor or a path in a field is an error where it is written, not where it is read."""
    with EventLog(tmp_path / "events.jsonl", {}) as log, pytest.raises(TypeError):
        log.write(Trainable(expected=(), actual=(Path("x"),)))  # type: ignore[arg-type]  # on purpose
    assert read_events(tmp_path / "events.jsonl") == ()
