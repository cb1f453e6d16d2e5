"""The name of a model on the Hub → the folder that has it: the client's own cache, or the Hub.

For models that only judge, which nothing is written beside.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, snapshot_download

from tunematrix.configuration.download import hub_address
from tunematrix.hub.events import Kind
from tunematrix.hub.failures import Circumstances, error_of
from tunematrix.paths import shown
from tunematrix.stack.toyworld.checkpoint import UnusableCheckpoint, checked

_FILES = ("*.json", "*.safetensors", "*.txt", "tokenizer.model")
"""What a model is loaded from; no weights in pickle form, and no code."""


def folder_of(name: str) -> Path:
    """Find a model in the client's cache, else fetch it into that; no token is sent.

    What is cached is taken as it is, without asking whether the Hub has a newer one.

    Args:
        name: NAME or OWNER/NAME.

    Raises:
        BadInput: the Hub has no such model, or doesn't give it to everybody; or it lacks
            safetensors or a tokenizer.
        MachineProblem: it isn't cached, and the Hub can't be used.
    """
    with suppress(UnusableCheckpoint, OSError, ValueError):  # not there, or not all of it
        return checked(_snapshot(name, cached=True))
    try:
        folder = _snapshot(name, cached=False)
    except Exception as error:  # noqa: BLE001  # the client raises what it likes
        from tunematrix.hub.causes import failure  # an old client, which is used alone, lacks some

        place = Circumstances(
            place=f"there is no folder {name}; on the Hub",
            repo=name,
            revision="main",
            output_dir=shown(Path(constants.HF_HUB_CACHE)),
            endpoint=hub_address(os.environ),
            token="HF_TOKEN",
            seconds=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        failed = failure(error, 0, "", has_token=False)
        if failed.kind is Kind.OFFLINE:
            failed = replace(failed, detail="it isn't cached there")
        raise error_of(failed, place) from None
    return checked(folder)


def _snapshot(name: str, *, cached: bool) -> Path:
    found = snapshot_download(
        name, allow_patterns=list(_FILES), local_files_only=cached, token=False
    )
    return Path(found)
