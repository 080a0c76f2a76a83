"""The section `server`, typed and frozen: the listener for clients.

As in `model`, the docstring of a field is its description in the JSON Schema and in `config/README.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.config.addresses import LISTEN
from gateway.config.section import Section
from gateway.config.types import (
    AuthorityFile,
    CertificateFile,
    Duration,
    HeaderSize,
    ListenAddress,
    PositiveDuration,
    PrivateKeyFile,
    Size,
    SocketMode,
    Switch,
    TrustedNetwork,
    Whole,
    as_list,
    one_of,
    text_or_list,
)

MINUTE = 60.0
KIB, MIB = 1024, 1024**2
_TLS_VERSIONS = {
    **dict.fromkeys(("tlsv1.2", "tls1.2", "tls 1.2", "1", "1.0", "1.1", "tlsv1", "tlsv1.1"), "1.2"),
    **dict.fromkeys(("tlsv1.3", "tls1.3", "tls 1.3"), "1.3"),
}


class ServerTimeouts(Section):
    """How long a client may take."""

    headers: PositiveDuration = 10.0
    """To send the request head."""
    body: PositiveDuration = MINUTE
    """To send the request body; of a form with files, what comes before the first file."""
    body_idle: PositiveDuration = 30.0
    """Between two pieces of the request body; later it must come with 1 KiB a second on average."""
    keep_alive: PositiveDuration = 75.0
    """Between two requests of a connection."""
    send: PositiveDuration = 30.0
    """A client that reads no byte of the response for this long is disconnected."""


class PortTlsSettings(Section):
    """TLS of the public port; its files are followed when they change."""

    certificate: CertificateFile = None
    """File with the certificate and behind it those of its issuers; empty: no TLS."""
    key: PrivateKeyFile = None
    """File with its private key."""
    client_ca: AuthorityFile = None
    """File with authorities: each client needs a certificate of one of them (mutual TLS); empty: none does."""
    min_version: Annotated[Literal["1.2", "1.3"], one_of("1.2", "1.3", others=_TLS_VERSIONS)] = "1.2"
    """The oldest version of TLS that is spoken."""

    @property
    def is_on(self) -> bool:
        return self.certificate is not None and self.key is not None


class ServerSettings(Section):
    """The listener for clients."""

    listen: Annotated[tuple[ListenAddress, ...], BeforeValidator(as_list)] = Field(
        default=(LISTEN,),
        min_length=1,
        examples=[[str(LISTEN)]],
        json_schema_extra=text_or_list,
    )
    """HOST:PORT of the public port, an IPv6 host in brackets; or unix:/PATH of a socket; or a list of them."""
    socket_mode: SocketMode = 0o660
    """Permissions of unix sockets; to connect needs the right to write."""
    tls: PortTlsSettings = PortTlsSettings()
    """For HOST:PORT; Unix sockets have none."""
    workers: Whole = 1
    """Processes that share the port; more than one needs auth.secret and a shared limits.store."""
    trusted_proxies: tuple[TrustedNetwork, ...] = ()
    """Networks (CIDR) whose X-Forwarded-For and Forwarded headers are believed; unix: peers of Unix sockets."""
    max_header: HeaderSize = 16 * KIB
    """Longest request target and header field; all fields together may be four times as long."""
    max_body: Size = 50 * MIB
    """Largest request body on any route."""
    buffered_bodies: Size = 512 * MIB
    """Memory for request bodies of all requests together; above it requests get 503 overloaded."""
    kept_replies: Size = 256 * MIB
    """Memory for replies that are kept to count tokens or to withhold, per worker; above it tokens are estimated."""
    timeouts: ServerTimeouts = ServerTimeouts()
    max_connections: Whole = 10000
    """Open client connections, per worker."""
    max_connections_per_address: Whole = 200
    """Open connections of one client address, per worker; trusted_proxies may have any number."""
    drain: Duration = 30.0
    """How long open streams may continue after SIGTERM."""
    drain_delay: Duration = 0.0
    """How long /readyz answers 503 before the port closes."""
    handover: Switch = False
    """Take both ports from the gateway that runs on the same address, and pass them to the next one; needs Linux."""
    watch: Switch = False
    """Read the configuration file again whenever it changes, as SIGHUP does."""
