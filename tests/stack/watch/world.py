"""Makes what the loops read: the toy world's base model and rows."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def main(folder: str) -> None:
    """Write the model to `base`, and each form's rows to `data/FORM/{train,test}.jsonl`."""
    from tunematrix.stack.recipes.data import DIALECT
    from tunematrix.stack.toyworld import models
    from tunematrix.stack.toyworld.corpus import Form, rows
    from tunematrix.stack.toyworld.preferences import pairs

    out = Path(folder)
    base = models.resolve(f"{models.SCHEME}base", out / "cache")
    shutil.copytree(base, out / "base", dirs_exist_ok=True)
    forms: tuple[Form, ...] = ("text", "chat", "prompt-completion")
    for form in forms:
        _write(out, f"{form}/train", rows(form, DIALECT, 96, 1))
        _write(out, f"{form}/test", rows(form, DIALECT, 16, 1, "held-out"))
    _write(out, "dpo/train", pairs("prompt-completion", DIALECT, 48, 1))


def _write(out: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    path = out / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
