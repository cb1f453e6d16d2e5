"""Which variables hold credentials, and how these are taken out of logs of any length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tunematrix.evidence import secrets
from tunematrix.evidence.secrets import mask_file, redacted, secrets_in


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "WANDB_API_KEY", "db_password", "CLIENT_SECRET", "SMTP_PASS", "DB_PWD"),
        *("KEY_PASSPHRASE", "AWS_CREDENTIALS", "NPM_AUTH", "SESSION_COOKIE", "SLACK_WEBHOOK_URL"),
        *("GITHUB_PAT", "AZURE_SAS", "MYSQL_PASSWD"),
    ],
)
def test_secret_by_name(name: str) -> None:
    """However it is written, and whatever surrounds the value."""
    assert secrets_in({name: "s3cr3t-value\n"}) == {"s3cr3t-value": f"<{name}>"}


@pytest.mark.parametrize(
    "name",
    ["PWD", "OLDPWD", "PATH", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "COMPASS", "PATTERN"],
)
def test_no_secret_by_name(name: str) -> None:
    """Where one works, what one runs, and words that only hold such a word."""
    assert secrets_in({name: "/home/someone/work"}) == {}


def test_passwords_of_urls() -> None:
    """In any variable: the password alone, so that the rest can still be read."""
    environ = {
        "HTTPS_PROXY": "http://me:hunter22@proxy:8080",
        "INDEX_URL": "https://pypi.org/simple",
    }
    assert secrets_in(environ) == {"hunter22": "<HTTPS_PROXY>"}


class Fleeting(Mapping[str, str]):
    """Variables one of which is gone as soon as it has been listed."""

    def __getitem__(self, name: str) -> str:
        return {"HF_TOKEN": "hf_abcdef"}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("HF_TOKEN", "GONE_TOKEN"))

    def __len__(self) -> int:
        return 2


def test_a_variable_that_another_thread_takes_away() -> None:
    """Cells run in threads while pytest sets and removes one of its own."""
    environ = Fleeting()
    with pytest.raises(KeyError):
        dict(environ.items())
    assert secrets_in(environ) == {"hf_abcdef": "<HF_TOKEN>"}


@pytest.mark.parametrize("offset", range(-9, 4))
def test_secrets_across_the_pieces_of_a_log(tmp_path: Path, offset: int) -> None:
    """A long log is read piece by piece, and a secret may lie over the seam."""
    log = tmp_path / "stdout.log"
    before = b"x" * (secrets._PIECE + offset)
    log.write_bytes(before + b"hf_abcdef-longer hf_abcdef" + b"y" * 100)
    mask_file(log, {"hf_abcdef-longer": "<B>", "hf_abcdef": "<A>"})
    assert log.read_bytes() == before + b"<B> <A>" + b"y" * 100
    assert list(tmp_path.iterdir()) == [log]


def test_a_log_without_secrets_stays_untouched(tmp_path: Path) -> None:
    """Nothing is written in vain."""
    log = tmp_path / "stdout.log"
    log.write_bytes(b"loss 0.5\n" * 1000)
    before = log.stat()
    mask_file(log, {"hf_abcdef": "<A>"})
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(tmp_path.iterdir()) == [log]


def test_what_is_redacted_whoever_wrote_it() -> None:
    """A password in a URL and a token of the Hub go; a port and an address stay."""
    token = f"hf_{'aB3' * 11}d"
    text = f"trl @ https://user:s3cretP4ss@host:8080/x and {token}, http://127.0.0.1:9/@x"
    told = redacted(text)
    assert told == "trl @ https://user:…@host:8080/x and hf_…, http://127.0.0.1:9/@x"


@pytest.mark.parametrize(
    "name", ["hf_trainer_sft[cpu]", "specs/hf_finetune.yaml", "self_hf_transfer"]
)
def test_names_that_look_like_tokens(name: str) -> None:
    """Whoever reads one has to type it again."""
    assert redacted(name) == name
