"""How texts become tokens: as the checkpoint says, and not as a library does."""

from __future__ import annotations

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import TokenizerRules
from tunematrix.evidence.evidence import Evidence


@check(
    name="tokenizer_rules",
    group="base",
    reads=(TokenizerRules,),
    unit="texts",
    bug=(
        "a class whose own rules replace the file's, so that a text becomes several times as many "
        "tokens, none of which the model has learned "
        "([transformers#45920](https://github.com/huggingface/transformers/issues/45920)); a "
        "tokenizer of another revision"
    ),
)
def tokenizer_rules(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The loaded tokenizer makes the tokens of a text that the checkpoint's own file says.

    Reads the tokens of some texts with spaces, digits, accents and special tokens, as the
    checkpoint's tokenizer gives them and as its tokenizer.json alone does. Fails when they
    differ. Not judged for a checkpoint without that file.
    """
    seen = evidence.one(TokenizerRules)
    if seen is None:
        return missing("how the tokenizer makes tokens of texts")
    if not seen.texts:
        return None
    message = (
        f"{len(seen.others)} of {seen.texts} texts became other tokens than tokenizer.json gives "
        f"({listed(seen.others, 2)}); likely a tokenizer_class in tokenizer_config.json whose "
        "rules replace the file's, or files of two revisions"
    )
    return judge_by(Exactly(0), len(seen.others), message)
