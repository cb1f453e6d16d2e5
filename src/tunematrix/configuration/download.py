"""What the config of `tunematrix download` may say."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Names, NonEmpty, PipelineStep, Section

HUB = "https://huggingface.co"
REPO = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95})?$"
"""Names of repositories: NAME or OWNER/NAME."""
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables in which the Hub's client looks for a token by itself."""
_YES = {"1", "ON", "YES", "TRUE"}  # as the client reads it
_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_]\w*)\}")


def hub_address(environ: Mapping[str, str]) -> str:
    """Return the address of the hub that is asked."""
    return environ.get("HF_ENDPOINT", "").rstrip("/") or HUB


def on_the_hub(path: str, root: Path) -> bool:
    """Return whether a path can only be the name of a model on the Hub.

    Args:
        path: as it is written. root: the folder that it is relative to.
    """
    return re.fullmatch(REPO, path) is not None and not (root / path).exists()


def network_needed(environ: Mapping[str, str]) -> str | None:
    """Return the address that a download asks; None where that is this machine, or nobody."""
    if environ.get("HF_HUB_OFFLINE", "").upper() in _YES:
        return None
    address = hub_address(environ)
    host = urlsplit(address).hostname or ""
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        is_here = host == "localhost"
    return None if is_here else address


def _from_environment(token: str) -> str:
    if _FROM_ENVIRONMENT.fullmatch(token) is None:
        # The token itself is in no message.
        text = (
            "holds a token itself, which would end up in a repository; set it as a variable of "
            'the environment, such as HF_TOKEN, and write "${{HF_TOKEN}}"'
        )
        raise PydanticCustomError("literal_token", text.replace("{{", "{").replace("}}", "}"))
    return token


class HubAccess(Section):
    """How the Hub is asked. Its address and offline mode are HF_ENDPOINT and HF_HUB_OFFLINE."""

    token: Annotated[str, AfterValidator(_from_environment)] = Field(
        "${HF_TOKEN}",
        description="The variable of the environment that holds the token, as ${NAME}. "
        "Where it isn't set no token is sent, since public models need none.",
    )

    @property
    def token_variable(self) -> str:
        """Name of the variable."""
        return self.token[2:-1]


class WantedModel(Section):
    """One repository, and which of its files go where."""

    repo: str = Field(pattern=REPO, description="Its name on the Hub: NAME or OWNER/NAME.")
    revision: NonEmpty = Field("main", description="Branch, tag or commit.")
    files: Names = Field(
        min_length=1,
        description="Names, or patterns such as *.safetensors. Each has to match a file.",
    )
    output_dir: NonEmpty = Field(
        description="Folder that the files are put in, under their paths in the repository."
    )


class DownloadConfig(Section):
    """The config of `tunematrix download`."""

    huggingface: HubAccess = Field(default_factory=HubAccess, description="How the Hub is asked.")
    models: tuple[WantedModel, ...] = Field(
        min_length=1, strict=False, description="What is downloaded, one after the other."
    )
    timeout: float = Field(
        300.0,
        gt=0,
        strict=False,
        description="Seconds without any progress after which the download is given up.",
    )

    @model_validator(mode="after")
    def _have_folders_of_their_own(self) -> Self:
        """Files of two models in one folder would overwrite each other."""
        folders = [model.output_dir.rstrip("/") for model in self.models]
        for index, folder in enumerate(folders):
            if folder in folders[:index]:
                text = "is also the output_dir of another model; give each its own"
                context = {"route": ("models", index, "output_dir")}
                raise PydanticCustomError("same_folder", text, context)
        return self


class DownloadStep(PipelineStep, DownloadConfig):
    """The config of `tunematrix download`, as a step before others."""

    computes: ClassVar[bool] = False

    @property
    def token_variables(self) -> tuple[str, ...]:
        """The one that holds its token."""
        return (self.huggingface.token_variable,)

    def folders(self, name: str, below: Path) -> dict[str, Path]:
        """Return where each model lies; one that is alone bears the step's name as well."""
        folders = [Path(model.output_dir).expanduser() for model in self.models]
        named = {f"{name}.{folder.name}": folder for folder in folders}
        return {name: folders[0], **named} if len(folders) == 1 else named

    @model_validator(mode="after")
    def _have_names_of_their_own(self) -> Self:
        names = [Path(model.output_dir).name for model in self.models]
        for index, name in enumerate(names):
            if name in names[:index]:
                text = "ends as another model's does, and later steps tell them by that; rename it"
                context = {"route": ("models", index, "output_dir")}
                raise PydanticCustomError("same_name", text, context)
        return self
