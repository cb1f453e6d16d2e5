"""Faults in conversations that preferences are learned from: turns opened or ended wrongly."""

from __future__ import annotations

from typing import Any

from trl.trainer import dpo_trainer

from tunematrix.faults.catalogue import fault

CHAT = ("dpo-chat[*-none-chat-completion]",)
TOKENIZE = (dpo_trainer, "_tokenize")


@fault("alignment", replaces=TOKENIZE, seen_by=CHAT)
def answer_opened_twice(original: Any, tokenizer: Any, text: Any, **settings: Any) -> Any:
    """Leave the words that hand over to the assistant out of the prompt, so that they count.

    Stands for templates that are asked without `add_generation_prompt`.
    """
    return original(tokenizer, text, **{**settings, "add_generation_prompt": False})


@fault("alignment", replaces=TOKENIZE, seen_by=CHAT)
def answers_not_ended(original: Any, tokenizer: Any, text: Any, **settings: Any) -> Any:
    """Take the end token off each answer.

    Stands for templates that end a turn before the next one alone.
    """
    found = original(tokenizer, text, **settings)
    if not settings.get("add_generation_prompt"):
        ids = found["input_ids"]
        while ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        found["input_ids"] = ids
    return found


@fault("alignment", replaces=TOKENIZE, seen_by=CHAT)
def turn_of_the_system_added(original: Any, tokenizer: Any, text: Any, **settings: Any) -> Any:
    """Begin each conversation with a turn that nobody wrote.

    Stands for templates with a system prompt of their own.
    """
    if isinstance(text, list):
        text = [{"role": "user", "content": "Be brief."}, *text]
    return original(tokenizer, text, **settings)
