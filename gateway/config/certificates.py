"""What is in the files of `server.tls`: the certificate with those of its issuers behind it, and its private key.

Every `ValueError` here is the rest of a sentence that begins with the name of the file; none repeats what is in it.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from msgspec import Struct

LARGEST = 1024 * 1024  # bytes of a file
_CHAIN_ADVICE = "write a file in PEM form, with BEGIN CERTIFICATE"
_KEY_ADVICE = "write a file in PEM form, with BEGIN PRIVATE KEY"
_BEHIND = "put the certificates of its issuers behind it, as in the fullchain.pem of certbot"


class Chain(Struct, frozen=True):
    """The certificates of a file, that of the gateway first."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def expires(self) -> datetime:
        """When the first of them does: from then on no client accepts any."""
        return min(one.not_valid_after_utc for one in self.certificates)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that it is for."""
        try:
            found = self.certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return ()
        return tuple(str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress))


def read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise ValueError(_unreadable(error)) from None
    if len(content) > LARGEST:
        raise ValueError("is larger than 1 MiB: write the file of one certificate or key")
    return content


def _unreadable(error: OSError | ValueError) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return "may not be read by this user: let the gateway's user read it"
    if number == errno.EISDIR:
        return "is a folder: write the path of a file"
    if number in (None, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return "is not a readable file: write a path relative to the configuration file"
    return (
        f"cannot be read now ({str(getattr(error, 'strerror', '')).lower()}): try again when the system can"
    )


def read_chain(content: bytes) -> Chain:
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"holds no certificate that can be read: {_CHAIN_ADVICE}") from None
    return Chain(tuple(found))


def read_key(content: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        advice = "write one without a passphrase, as `openssl pkey -in KEY -out NEW` makes it"
        raise ValueError(f"is encrypted, and the gateway has no passphrase: {advice}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"holds no private key that can be read: {_KEY_ADVICE}") from None


def misfit(chain: Chain, key: PrivateKeyTypes) -> str:
    """Why a key does not belong to the first certificate, behind the name of its file; empty if it does."""
    wanted = _public(key)
    places = [at for at, one in enumerate(chain.certificates, 1) if _public(one) == wanted]
    if not places:
        return "does not fit the certificate: write the key with which that was requested"
    if places[0] > 1:
        return f"fits the certificate at place {places[0]} of its file, not the first: put that one in front"
    return ""


def _public(owner: PrivateKeyTypes | x509.Certificate) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def lapses(chain: Chain, now: datetime) -> Iterator[str]:
    """What is wrong with the dates."""
    for at, one in enumerate(chain.certificates, 1):
        which = "" if at == 1 else f" at place {at}, of an issuer,"
        if one.not_valid_after_utc <= now:
            yield f"the certificate{which} expired on {one.not_valid_after_utc:%Y-%m-%d}: renew it"
        elif one.not_valid_before_utc > now:
            day = f"{one.not_valid_before_utc:%Y-%m-%d}"
            yield f"the certificate{which} is not valid before {day}: set the clock, or use another one"


def gaps(chain: Chain) -> Iterator[str]:
    """What may keep clients from accepting it: no name, or no issuer that they know."""
    leaf, *others = chain.certificates
    if not chain.names:
        yield "the certificate names no host (subjectAltName), so that no client accepts it: request one that does"
    top = leaf
    while top.issuer != top.subject:
        issuer = next((one for one in others if one.subject == top.issuer), None)
        if issuer is None:
            break
        others.remove(issuer)
        top = issuer
    if top.issuer != top.subject and tuple(str(one.value) for one in top.issuer) not in _known_authorities():
        name = top.issuer.rfc4514_string()
        yield f"the certificate of its issuer {name} is missing, which this system does not know either: {_BEHIND}"


def _known_authorities() -> frozenset[tuple[str, ...]]:
    """The names of those of this system."""
    known: list[dict[str, Any]] = ssl.create_default_context().get_ca_certs()
    return frozenset(tuple(value for group in one["subject"] for _, value in group) for one in known)


MIN_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(certificate: Path, key: Path, client_ca: Path | None, min_version: str) -> ssl.SSLContext:
    """What a port with this certificate speaks.

    Raises:
        OSError: a file cannot be read, or OpenSSL refuses what is in it (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MIN_VERSIONS[min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_passphrase)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    """Without this OpenSSL would ask for one on the terminal."""
    return ""


def refusal(error: ssl.SSLError) -> str:
    """Why OpenSSL does not take a certificate and its key, behind the name of the file."""
    reason = (error.reason or "no reason given").lower().replace("_", " ")
    return f"is refused by OpenSSL ({reason}): request a new certificate with a key that is strong enough"
