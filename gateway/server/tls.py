"""The certificate of the public port: read at the start, and again when its files have changed.

Their content is compared, so that a swapped link, as of a ConfigMap or cert-manager, is seen as any other change. A new
one is used once it has been the same for two looks. certbot and others write certificate and key one after the other:
what does not fit is looked at for a few seconds more before it is a mistake. With a mistake the old certificate stays.
Connections that are open keep theirs.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from gateway.aio import Tasks, WorkThread
from gateway.config import PortTlsSettings
from gateway.telemetry.logs import Logger

if TYPE_CHECKING:
    from gateway.config.certificates import Chain

LOOK_EVERY = 1.5  # seconds
PATIENCE = 4.0  # seconds for the other file of a new pair
T = TypeVar("T")


class CertificateError(Exception):
    """What is in the files cannot be used; the message names the file, and says what would be right."""


class Loaded(Struct, frozen=True):
    """A certificate that can be used. `digest`: of the files."""

    settings: PortTlsSettings
    context: ssl.SSLContext
    chain: Chain
    digest: bytes


class Reports(Struct, frozen=True):
    """Called on the loop.

    Attributes:
        on_read: after each change, with whether it had no mistakes.
        on_expiry: with the name of the file and the time when the certificate expires, in seconds since the epoch.
    """

    on_read: Callable[[bool], None] = lambda _: None
    on_expiry: Callable[[str, float], None] = lambda _name, _expires: None


class Certificate:
    """From `start` to `close`; without TLS it does nothing. `tick` is for the coarse timer."""

    def __init__(self, settings: PortTlsSettings, tasks: Tasks, logger: Logger, reports: Reports) -> None:
        self._settings = settings
        self._tasks = tasks
        self._logger = logger
        self._reports = reports
        self._thread = WorkThread("certificate")
        self._loaded: Loaded | None = None
        self._seen = b""  # another content, seen at the last look
        self._seen_at = 0.0  # monotonic seconds
        self._refused = b""  # a content with mistakes that are logged
        self._next_look = 0.0
        self._is_looking = self._is_closed = False

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        if self._loaded is None:
            raise AssertionError("there is no certificate")
        return self._loaded.context

    async def start(self) -> None:
        """Read the files.

        Raises:
            CertificateError: they have mistakes.
        """
        if self._settings.is_on:
            self._use(await self._thread.run(load, self._settings))

    async def prepare(self, settings: PortTlsSettings) -> Loaded | None:
        """What `adopt` takes of another configuration: the present one if it names the same files, and they are broken.

        Raises:
            CertificateError: other files have mistakes.
        """
        try:
            return await self._thread.run(load, settings) if settings.is_on else None
        except CertificateError:
            if settings != self._settings:
                raise
            return self._loaded

    def adopt(self, loaded: Loaded | None) -> None:
        """Use this from now on."""
        if loaded is not None:
            self._settings = loaded.settings
            self._use(loaded)

    def tick(self, now: float) -> None:
        """Look at the files if it is time; `now` in monotonic seconds."""
        if self._loaded is None or self._is_closed or self._is_looking or now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        self._is_looking = True
        self._tasks.start(self._look(now, self._loaded), "certificate")

    async def close(self) -> None:
        """Look no more; first the look that is under way, which would still want the thread."""
        self._is_closed = True
        await self._tasks.join(0)
        await self._thread.close()

    async def _look(self, now: float, current: Loaded) -> None:
        try:
            digest = await self._thread.run(digest_of, current.settings)
            if digest in (current.digest, self._refused):
                self._seen = b""
            elif digest != self._seen:
                self._seen, self._seen_at = digest, now
            else:
                await self._reload(digest, now, current)
        finally:
            self._is_looking = False

    async def _reload(self, digest: bytes, now: float, current: Loaded) -> None:
        try:
            loaded = await self._thread.run(load, current.settings)
            if self._loaded is not current:  # a reload of the configuration was faster
                return
            _check_dates(loaded, current)
        except CertificateError as error:
            if now - self._seen_at >= PATIENCE:
                self._refuse(digest, str(error))
            return
        self._use(loaded)

    def _refuse(self, digest: bytes, mistake: str) -> None:
        self._refused = digest
        self._reports.on_read(False)
        message = "the certificate stays as it was"
        self._logger.error("tls_certificate_broken", message=message, mistakes=[mistake])

    def _use(self, loaded: Loaded) -> None:
        is_new = self._loaded is None or self._loaded.digest != loaded.digest
        self._loaded, self._seen, self._refused = loaded, b"", b""
        expires = loaded.chain.expires
        self._reports.on_expiry(_name(loaded.settings.certificate), expires.timestamp())
        if is_new:
            self._reports.on_read(True)
            names, until = list(loaded.chain.names)[:20], f"{expires:%Y-%m-%dT%H:%M:%SZ}"
            self._logger.info("tls_certificate_loaded", names=names, expires=until)


def load(settings: PortTlsSettings) -> Loaded:
    """Read the files; for a thread.

    Raises:
        CertificateError: they have mistakes.
    """
    if settings.certificate is None or settings.key is None:
        raise AssertionError("only with both files")
    from gateway.config import certificates  # noqa: PLC0415 - 9 MB, and only with TLS

    digest = digest_of(settings)
    chain = _read(settings.certificate, certificates.read_chain)
    key = _read(settings.key, certificates.read_key)
    if reason := certificates.misfit(chain, key):
        raise CertificateError(f"{settings.key} {reason}")
    try:
        context = certificates.server_context(
            settings.certificate, settings.key, settings.client_ca, settings.min_version
        )
    except ssl.SSLError as error:
        raise CertificateError(f"{settings.certificate} {certificates.refusal(error)}") from error
    except OSError as error:
        raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error
    if digest_of(settings) != digest:
        raise CertificateError(f"{settings.certificate} changes while it is read: write it once")
    return Loaded(settings, context, chain, digest)


def _read(path: Path, parse: Callable[[bytes], T]) -> T:
    from gateway.config.certificates import read_file  # noqa: PLC0415 - as above

    try:
        return parse(read_file(path))
    except ValueError as error:
        raise CertificateError(f"{path} {error}") from None


def digest_of(settings: PortTlsSettings) -> bytes:
    """Of all files together; one that cannot be read counts as its reason."""
    from gateway.config.certificates import read_file  # noqa: PLC0415 - as above

    found = sha256()
    for path in (settings.certificate, settings.key, settings.client_ca):
        if path is not None:
            try:
                content = read_file(path)
            except ValueError as error:
                content = str(error).encode()
            found.update(sha256(content).digest())
    return found.digest()


def _check_dates(loaded: Loaded, current: Loaded) -> None:
    """A certificate that is not valid now is no renewal of one that is."""
    from gateway.config.certificates import lapses  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    wrong = next(lapses(loaded.chain, now), "")
    if wrong and not any(lapses(current.chain, now)):
        raise CertificateError(f"{loaded.settings.certificate}: {wrong}")


def _name(path: Path | None) -> str:
    return "" if path is None else path.name
