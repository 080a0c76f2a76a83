"""The files of `server.tls` as values. What reads them is loaded where there are some, because it is large."""

from __future__ import annotations

from pathlib import Path


def certificate_file(path: str) -> Path:
    """A file with certificates in PEM form."""
    from gateway.config.certificates import read_chain, read_file  # noqa: PLC0415 - large

    read_chain(read_file(Path(path)))
    return Path(path)


def private_key_file(path: str) -> Path:
    """A file with a private key in PEM form that needs no passphrase."""
    from gateway.config.certificates import read_file, read_key  # noqa: PLC0415 - large

    read_key(read_file(Path(path)))
    return Path(path)
