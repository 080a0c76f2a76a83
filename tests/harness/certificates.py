"""Certificates with one thing wrong, made for one test by an authority of its own."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS = timedelta(days=3650)
HERE = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))

# The digital signature and what follows: false but for signing certificates.
MAY_SIGN = x509.KeyUsage(*[False] * 5, True, *[False] * 3)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Pair:
    """The files of `server.tls`."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "key": str(self.key)}


class Authority:
    """`ca`: the file with its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign("Authority", self._key, (-YEARS, YEARS), None, is_self_signed=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def server(
        self, names: tuple[x509.GeneralName, ...] = HERE, valid: tuple[timedelta, timedelta] = (-YEARS, YEARS)
    ) -> ssl.SSLContext:
        """The context of a server whose certificate has these names, and is valid from and to (from now)."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._context(key, self._sign("Server", key, valid, names))

    def pair(self, name: str = "tls", **options) -> Pair:
        """A certificate and its key in files of their own. Options: `names`, `valid` as for `server`; `chain`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names, valid = options.get("names", HERE), options.get("valid", (-YEARS, YEARS))
        certificate = self._sign(options.get("subject", "Server"), key, valid, names)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        chain = certificate.public_bytes(Encoding.PEM) + options.get("chain", b"")
        pair.certificate.write_bytes(chain)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority; with a certificate of its own, if it has one."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def for_clients(self) -> ssl.SSLContext:
        """The context of a server whose certificate is one of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._context(key, self._sign("Server", key, (-YEARS, YEARS), HERE, purpose=purpose))

    def without_identifier(self) -> ssl.SSLContext:
        """The context of a server whose certificate has no authority key identifier, against RFC 5280 4.2.1.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._context(key, self._sign("Server", key, (-YEARS, YEARS), HERE, has_identifier=False))

    def self_signed(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        return self._context(key, self._sign("Server", key, (-YEARS, YEARS), HERE, is_self_signed=True))

    def _sign(
        self, name, key, valid, names, *, is_self_signed=False, purpose=None, has_identifier=True
    ) -> x509.Certificate:
        """`names`: None, if it is an authority."""
        now = datetime.now(UTC)
        is_authority = names is None
        signing = key if is_self_signed else self._key
        builder = (
            x509.CertificateBuilder(
                _name(name if is_self_signed else "Authority"),
                _name(name),
                key.public_key(),
                x509.random_serial_number(),
            )
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if has_identifier:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
            builder = builder.add_extension(identifier, critical=False)
        if is_authority:
            builder = builder.add_extension(MAY_SIGN, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purpose is not None:
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(signing, hashes.SHA256())

    def _context(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
        path = self._folder / "server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context
