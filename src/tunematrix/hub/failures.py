"""Each kind of failure → what a user is told, and the exit code; and what users are warned of."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import PurePosixPath

from tunematrix.errors import BadInput, MachineProblem, TunematrixError, did_you_mean
from tunematrix.hub.events import Failed, Kind, Listed

PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
"""Endings of files that may be pickles, which run code when they are loaded."""
_SHOWN = 40
"""Files of a repository that a message lists at most."""
_LATER = "run the same command again later; what was fetched is kept"
_AGAIN = "run the same command again; it goes on where this one ended"


@dataclass(frozen=True)
class Advice:
    """What is said of a kind of failure; names in braces are filled in.

    Attributes:
        what: happened; cause: the likely one; to_do: next.
        family: the error that it becomes, which has the exit code.
    """

    what: str
    cause: str
    to_do: str
    family: type[TunematrixError] = MachineProblem


ADVICE = {
    Kind.NO_LIBRARY: Advice(
        "huggingface_hub isn't installed in this environment",
        "tunematrix was installed without the extra that brings it",
        'python -m pip install "tunematrix[hub]"',
    ),
    Kind.UNREACHABLE: Advice(
        "{endpoint} can't be reached",
        "no network, a proxy or a firewall in between, or HF_ENDPOINT names the wrong address",
        "open {endpoint} from this machine; with HF_HUB_OFFLINE=1, what was downloaded is used",
    ),
    Kind.NO_ADDRESS: Advice(
        "the name of {endpoint} can't be resolved (DNS)",
        "no network, or HF_ENDPOINT is misspelt",
        "check the network and HF_ENDPOINT; with HF_HUB_OFFLINE=1, what was downloaded is used",
    ),
    Kind.NOT_A_HUB: Advice(
        "{endpoint} doesn't answer as a Hub does",
        "HF_ENDPOINT names something else, or a proxy answers in its place",
        "correct HF_ENDPOINT, or unset it",
    ),
    Kind.TOKEN_MISSING: Advice(
        "the hub wants a token (401), and none was sent",
        "{token} isn't set",
        "make a token at {endpoint}/settings/tokens and set {token} to it",
        BadInput,
    ),
    Kind.TOKEN_WRONG: Advice(
        "the hub refuses the token (401)",
        "the token in {token} is mistyped, expired or revoked",
        "make a new one at {endpoint}/settings/tokens, or unset {token} for a public model",
        BadInput,
    ),
    Kind.GATED: Advice(
        "access is gated ({status})",
        "its owners haven't granted access to the account of {token}, or {token} isn't set",
        "ask for access at {endpoint}/{repo}, and set {token} to a token of that account",
        BadInput,
    ),
    Kind.FORBIDDEN: Advice(
        "the hub forbids access (403)",
        "the token in {token} lacks the right to read this repository, or it was disabled",
        "give the token that right at {endpoint}/settings/tokens, or choose another model",
        BadInput,
    ),
    Kind.NO_REPO: Advice(
        "there is no such repository ({status})",
        "its name is misspelt; or it is private, and {token} isn't set or has no access",
        "look it up at {endpoint}/{repo}; for a private one, set {token}",
        BadInput,
    ),
    Kind.NO_REVISION: Advice(
        "has no revision {revision} ({status})",
        "the branch, tag or commit is misspelt or was deleted",
        "look at the branches and tags at {endpoint}/{repo}/tree/main",
        BadInput,
    ),
    Kind.NO_FILE: Advice(
        "{file} is listed, but isn't there ({status})",
        "it was deleted meanwhile, or the hub's storage has lost it",
        "run the same command again; if it stays so, choose another revision",
        BadInput,
    ),
    Kind.UNMATCHED: Advice(
        "no file matches {detail}",
        "it is misspelt, or this repository keeps its weights under other names",
        "{choice}",
        BadInput,
    ),
    Kind.UNSAFE_PATH: Advice(
        "the hub lists a file {file}, which leads out of the folder",
        "this repository, or the hub that HF_ENDPOINT names, means harm",
        "don't use it; nothing of it was written",
    ),
    Kind.RATE_LIMIT: Advice(
        "too many requests (429){wait}",
        "the hub limits requests by address and account",
        f"wait; then {_AGAIN}; a token in {{token}} raises the limit",
    ),
    Kind.SERVER_ERROR: Advice(
        "the hub has an error of its own ({status}){wait}",
        "it is overloaded or being maintained",
        _LATER,
    ),
    Kind.CUT: Advice(
        "the connection was cut, again and again{of_file}",
        "an unstable network, or a proxy that ends long transfers",
        _AGAIN,
    ),
    Kind.SLOW: Advice(
        "{endpoint} doesn't answer in time{of_file}",
        "an overloaded hub or network",
        _LATER,
    ),
    Kind.HANG: Advice(
        "no progress for {seconds:g} s{of_file}; given up{because}",
        "a hub, proxy or network that accepts connections and then falls silent",
        f"{_AGAIN}; `timeout` in the config is the limit",
    ),
    Kind.BUSY: Advice(
        "another download has been at work in {output_dir} for {seconds:g} s; given up",
        "the same command or step runs twice, or two of them name one folder",
        f"wait for the other, or give each its own output_dir; then {_AGAIN}",
    ),
    Kind.WRONG_SIZE: Advice(
        "{file} came with the wrong size",
        "a proxy or mirror that changes or cuts files",
        "run the same command again; if it stays so, use another HF_ENDPOINT or network",
    ),
    Kind.WRONG_HASH: Advice(
        "{file} isn't what the hub says it is: its hash differs; it was removed",
        "a proxy, mirror or disk that corrupts files, or another revision's file",
        "run the same command again; if it stays so, use another HF_ENDPOINT or network",
    ),
    Kind.ENDLESS: Advice(
        "{file} goes on after all announced bytes have come; it was ended",
        "a proxy or mirror that answers with something else",
        "use another HF_ENDPOINT or network",
    ),
    Kind.REDIRECTS: Advice(
        "the hub redirects in a circle{of_file}",
        "a misconfigured mirror or proxy",
        "check HF_ENDPOINT, or use another network",
    ),
    Kind.DISK_FULL: Advice(
        "no space for it in {output_dir}: {detail}",
        "the disk or its quota is full",
        f"free space, or set output_dir to another disk; then {_AGAIN}",
    ),
    Kind.CANT_WRITE: Advice(
        "can't write to {output_dir}: {detail}",
        "a file is in the way, or this user may not write there",
        "correct output_dir, or its permissions",
    ),
    Kind.OFFLINE: Advice(
        "HF_HUB_OFFLINE is set, and {output_dir} doesn't hold it: {detail}",
        "it was never downloaded there as a whole, or was changed since",
        "run the same command again with HF_HUB_OFFLINE=0; Nox sets it to 1 unless it is set",
    ),
    Kind.DIED: Advice(
        "the process that downloads {detail}",
        "it was ended from outside, for want of memory for instance; or this is a bug",
        f"{_AGAIN}; with --verbose to see more",
    ),
    Kind.OTHER: Advice(
        "the download failed{of_file} ({detail})",
        "something that tunematrix has no words for",
        "run the same command with --verbose",
    ),
}


@dataclass(frozen=True)
class Circumstances:
    """What a failure befell.

    Attributes:
        place: file and line of the config's entry, empty where somebody else says that.
        repo, revision, output_dir: what the entry says.
        endpoint: the Hub's address; token: the variable that holds the token.
        seconds: the limit without progress.
    """

    place: str
    repo: str
    revision: str
    output_dir: str
    endpoint: str
    token: str
    seconds: float


def error_of(failed: Failed, at: Circumstances) -> TunematrixError:
    """Return the error that a failure becomes."""
    advice = ADVICE[failed.kind]
    values = {
        "repo": at.repo,
        "revision": at.revision,
        "output_dir": at.output_dir,
        "endpoint": at.endpoint,
        "token": at.token,
        "seconds": at.seconds,
        "file": _on_one_line(failed.path),
        "of_file": f" at {_on_one_line(failed.path)}" if failed.path else "",
        "status": failed.status,
        "wait": f"; it asks to wait {failed.retry_after} s" if failed.retry_after else "",
        "detail": _on_one_line(failed.detail),
        "because": f"; {_on_one_line(failed.detail)}" if failed.detail else "",
        "choice": _choice(failed),
    }
    where = f"{at.place}: " if at.place else ""
    head = f"{where}{at.repo}: {advice.what.format(**values)}"
    cause = f"likely cause: {advice.cause.format(**values)}"
    return advice.family(f"{head}\n  {cause}\n  to do: {advice.to_do.format(**values)}")


def warnings_of(listed: Listed) -> list[str]:
    """Return a warning for each file that may run code of its author once it is loaded."""
    return [
        f"{_on_one_line(file.path)} may be a pickle, which runs code of its author when it is "
        "loaded; later steps load safetensors alone: name those in `files` instead"
        for file in listed.files
        if PurePosixPath(file.path).suffix.lower() in PICKLES
    ]


def _choice(failed: Failed) -> str:
    """Say what there is to choose from: the likest names, then all, as far as they fit."""
    if not failed.names:
        return "choose another repository or revision: this one has no files"
    close = difflib.get_close_matches(failed.detail, failed.names, n=1)
    advice = f"{did_you_mean(failed.detail, failed.names)} " if close else ""
    more = len(failed.names) - _SHOWN
    names = ", ".join(_on_one_line(name) for name in failed.names[:_SHOWN])
    return f"{advice}it has {names}{f' and {more} more' if more > 0 else ''}"


def _on_one_line(text: str) -> str:
    """Return what another machine has named, so that it can't pass for a line of ours."""
    return " ".join(text.split())
