"""The step `generate`: honest variations are silent, and what it writes down is so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.stack.generate_step.world import ADAPTER, BASE, GPT2_ADAPTER, PROMPTS, World
from transformers import AutoModelForCausalLM

from tunematrix.errors import WrongSetting
from tunematrix.evidence.events import (
    StepAdapter,
    StepBegun,
    StepCache,
    StepDone,
    StepGrammar,
    StepProgress,
    StepScored,
    StepTogether,
    StepWarning,
)
from tunematrix.stack.toyworld import corpus, models

OPENINGS = corpus.stories("A", 20, 3, "held-out")
HONEST: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "an adapter": {"path": ADAPTER},
    "an adapter, one by one": {"path": ADAPTER, "generation": {"batch_size": 1}},
    "an adapter, drawn": {"path": ADAPTER, "generation": {"temperature": 0.8}},
    "an adapter, long answers": {"path": ADAPTER, "generation": {"max_new_tokens": 70}},
    "another seed": {"generation": {"temperature": 1.0, "seed": 7}},
    "a large seed": {"generation": {"temperature": 1.0, "seed": 2**62}},
    "hot": {"generation": {"temperature": 2.0}},
    "cold": {"generation": {"temperature": 0.01}},
    "one prompt": {"prompts": PROMPTS[:1]},
    "one token": {"prompts": ["Once"], "generation": {"max_new_tokens": 1}},
    "the same prompt twice": {"prompts": PROMPTS[:1] * 2},
    "pairs": {"generation": {"batch_size": 2}},
    "threes": {"generation": {"batch_size": 3}},
    "more than there are": {"generation": {"batch_size": 100}},
    "whole stories": {"prompts": OPENINGS[:3]},
    "twenty openings": {
        "prompts": [" ".join(story.split(" ")[: 1 + n]) for n, story in enumerate(OPENINGS)],
        "generation": {"max_new_tokens": 8},
    },
    "words that it never saw": {"prompts": ["Zebras éat 日本 pizza", "Once upon"]},
    "the other dialect": {"prompts": corpus.stories("B", 3, 1)},
    "to the last position": {
        "prompts": [" ".join(OPENINGS)[:1200], "Once"],
        "generation": {"max_new_tokens": 200},
    },
    "gpt2": {"path": "toyworld://gpt2"},
    "gpt2, an adapter": {"path": GPT2_ADAPTER},
    "gpt2, an adapter, drawn in pairs": {
        "path": GPT2_ADAPTER,
        "generation": {"temperature": 1.0, "batch_size": 2},
    },
    "gpt2, one by one": {"path": "toyworld://gpt2", "generation": {"batch_size": 1}},
    "gemma, with a sliding window": {
        "path": "toyworld://gemma",
        "prompts": [OPENINGS[0], "Once"],
        "generation": {"max_new_tokens": 40},
    },
    "experts": {"path": "toyworld://moe"},
    "phi3": {"path": "toyworld://phi3"},
    "an untied head": {"path": "toyworld://untied"},
}
EXACT = {"step_batch_equals_single", "step_cache_exact", "step_adapter_acts"}


@pytest.mark.each_time(6)
@pytest.mark.parametrize("name", HONEST)
def test_honest_variations_are_silent(world: World, name: str) -> None:
    """Whatever is asked, of whatever model."""
    ran = world.run(**HONEST[name])
    assert not ran.failed & EXACT, [ran.verdicts[one] for one in ran.failed]
    cache = ran.evidence.one(StepCache)
    assert cache is not None
    assert max(cache.logits) < 1e-5, "a hundredth of what the check allows"
    assert len(ran.lines) == len(HONEST[name].get("prompts", PROMPTS))
    assert ("step_adapter_acts" in ran.verdicts) is ("adapter" in HONEST[name].get("path", ""))


def test_answers_of_the_toy_world_are_stories(world: World) -> None:
    """Judged by the grammar, to their end or to where they are cut off."""
    for most in (8, 24, 70):
        ran = world.run(generation={"max_new_tokens": most})
        assert ran.evidence.one(StepGrammar) == StepGrammar("generate", len(PROMPTS), len(PROMPTS))
        assert ran.verdicts["step_grammatical"].outcome == "passed"
    assert {line["ended"] for line in ran.lines} == {True}
    random = world.run("toyworld://gpt2")
    assert random.failed == {"step_grammatical"}
    others = world.run(prompts=["One day", "Zebras"])
    assert others.evidence.one(StepGrammar) is None


def test_a_reference_model_judges(world: World) -> None:
    """By perplexity: low for what it would say itself, high for what a random model says."""
    scorer = {"path": BASE, "perplexity_max": 100}
    ran = world.run(scorer=scorer)
    assert not ran.failed
    scored = ran.evidence.one(StepScored)
    assert scored is not None
    assert scored.scorer == BASE
    assert max(scored.perplexities) < 3
    assert [line["perplexity"] for line in ran.lines] == list(scored.perplexities)
    nonsense = world.run("toyworld://gpt2", scorer=scorer)
    assert "step_perplexity" in nonsense.failed
    silent = world.run(prompts=OPENINGS[:2], scorer=scorer)
    assert "step_perplexity" in silent.failed
    assert [line["answer"] for line in silent.lines] == ["", ""]


def test_what_is_written(world: World) -> None:
    """One object a line, and events that tell its user how far it is."""
    ran = world.run(ADAPTER, prompts=["Once upon a time", "Once"], generation={"batch_size": 1})
    assert [list(line) for line in ran.lines] == [["prompt", "answer", "tokens", "ended"]] * 2
    assert ran.lines[0]["answer"].startswith(" ")
    begun, done = ran.evidence.one(StepBegun), ran.evidence.one(StepDone)
    assert begun is not None and done is not None
    assert begun.does == "2 answers, the likeliest, of 24 tokens at most"
    assert begun.adapter.endswith(ADAPTER) and begun.base == str(models.BASE)
    assert done.says.startswith("2 answers in ")
    steps = [(p.what, p.done, p.total) for p in ran.evidence.all(StepProgress)]
    assert steps[:2] == [("prompts", 1, 2), ("prompts", 2, 2)]


def test_seeds(world: World) -> None:
    """One seed gives one set of answers, another gives others, and equal prompts differ."""
    asked: dict[str, Any] = {
        "prompts": ["Once upon a time"] * 6,
        "generation": {"temperature": 1.0},
    }
    first, again = world.run(**asked), world.run(**asked)
    other = world.run(prompts=asked["prompts"], generation={"temperature": 1.0, "seed": 1})
    answers = [[line["answer"] for line in one.lines] for one in (first, again, other)]
    assert answers[0] == answers[1] != answers[2]
    assert len(set(answers[0])) == 6
    single = {"temperature": 1.0, "batch_size": 1}
    alone = world.run(prompts=asked["prompts"], generation=single)
    assert len({line["answer"] for line in alone.lines}) == 6


def test_an_adapter_and_its_base(world: World) -> None:
    """It says something else, and what it leaves is exactly its base."""
    event = world.run(ADAPTER).evidence.one(StepAdapter)
    assert event is not None
    assert event.prompts == len(PROMPTS)
    assert event.answers > 0
    assert event.changed > 0.1
    assert event.left == 0.0


def test_prompts_of_a_file(world: World, tmp_path: Path) -> None:
    """In its order, whatever its field is called."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"question": one}) + "\n" for one in PROMPTS))
    ran = world.run(dataset={"path": str(file), "prompt_field": "question"})
    assert [line["prompt"] for line in ran.lines] == list(PROMPTS)
    with pytest.raises(WrongSetting) as caught:
        world.run(dataset={"path": str(file)})
    assert caught.value.route == ("dataset", "prompt_field")
    assert "prompt" in str(caught.value)


def test_many_prompts_are_compared_on_some(world: World) -> None:
    """The shortest and the longest among them."""
    prompts = [" ".join(OPENINGS[n % 20].split(" ")[: 1 + n % 12]) for n in range(40)]
    ran = world.run(prompts=prompts, generation={"max_new_tokens": 4, "batch_size": 16})
    together = ran.evidence.one(StepTogether)
    assert together is not None
    assert (len(together.gaps), together.batch) == (16, 16)
    assert len(ran.lines) == 40


def test_dry_run(world: World) -> None:
    """Everything is read, and nothing is loaded or written."""
    ran = world.run(ADAPTER, dry_run=True, scorer={"path": BASE})
    assert ran.lines == []
    assert ran.verdicts == {}
    done = ran.evidence.one(StepDone)
    assert done is not None
    assert done.says == "nothing was written"
    with pytest.raises(WrongSetting, match="512 positions"):
        world.run(prompts=["Once " * 600], dry_run=True)


def test_a_generation_config_does_not_decide(world: World, tmp_path: Path) -> None:
    """What a checkpoint presets is said, and isn't followed; its further ends are."""
    model = AutoModelForCausalLM.from_pretrained(models.BASE)
    model.generation_config.repetition_penalty = 1.5
    stop = 20
    model.generation_config.eos_token_id = [1, stop]
    preset = tmp_path / "preset"
    model.save_pretrained(preset)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (preset / name).write_bytes((models.BASE / name).read_bytes())
    ran = world.run(str(preset))
    assert not ran.failed & EXACT
    assert "repetition_penalty=1.5" in "".join(w.text for w in ran.evidence.all(StepWarning))
    plain = world.run()
    assert not plain.evidence.all(StepWarning)
    for one, two in zip(plain.lines, ran.lines, strict=True):
        assert one["answer"].startswith(two["answer"])
