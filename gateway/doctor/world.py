"""What the checks look at: the configuration, and what each Flowise answered, which is asked once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from gateway.config import Config, Route, UpstreamSettings
from gateway.flowise.chatflows import Chatflow
from gateway.upstream.flowise_admin import Advice, FlowiseAdmin, FlowiseQueryError, Greeting
from gateway.upstream.pool import tls_context


@dataclass(frozen=True, slots=True)
class Survey:
    """What one Flowise answered: a greeting and its chatflows by id, or the error instead of each."""

    greeting: Greeting | FlowiseQueryError
    chatflows: Mapping[str, Chatflow] | FlowiseQueryError


class World:
    """One examination. `question`: to ask every chatflow; empty: nothing is asked."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], now: Callable[[], float], question: str = ""
    ) -> None:
        self.config = config
        self.environ = environ
        self.now = now
        self.question = question
        self._surveys: dict[str, Survey] = {}
        self._locks = {name: asyncio.Lock() for name in config.upstreams}
        self._tls = {name: _context(settings) for name, settings in config.upstreams.items()}

    def admin(self, upstream: str) -> FlowiseAdmin:
        settings = self.config.upstreams[upstream]
        place = f"upstreams.{upstream}"
        advice = Advice(
            authority=f"Write the file of its authority into {place}.tls.ca.",
            key=f"write it into {place}.api_key",
        )
        key = settings.api_key.get_secret_value()
        return FlowiseAdmin(settings.servers[0].url, key, self._tls[upstream], advice)

    def tls(self, upstream: str) -> ssl.SSLContext | None:
        return self._tls[upstream]

    def routes_of(self, upstream: str) -> list[Route]:
        return [route for route in self.config.routes if route.upstream == upstream]

    async def survey(self, upstream: str) -> Survey:
        """What a Flowise answers; asked by the first that wants to know."""
        async with self._locks[upstream]:
            if upstream not in self._surveys:
                self._surveys[upstream] = await _ask(self.admin(upstream))
            return self._surveys[upstream]

    async def chatflows(self, upstream: str) -> Mapping[str, Chatflow]:
        """The chatflows of a Flowise by id, as far as the key of any upstream to this server may list them."""
        url = self.config.upstreams[upstream].servers[0].url
        found: dict[str, Chatflow] = {}
        for name, settings in self.config.upstreams.items():
            if settings.servers[0].url == url:
                listed = (await self.survey(name)).chatflows
                found |= {} if isinstance(listed, FlowiseQueryError) else listed
        return found

    def secrets(self) -> Collection[str]:
        """Every secret of the configuration, none of which may be shown."""
        config = self.config
        store = URL(config.limits.store.url) if config.limits.store.is_shared else URL()
        return {
            config.admin.token.get_secret_value(),
            *(secret.get_secret_value() for secret in config.auth.secret),
            *(upstream.api_key.get_secret_value() for upstream in config.upstreams.values()),
            store.password or "",
            store.raw_password or "",
        }


async def _ask(admin: FlowiseAdmin) -> Survey:
    async with admin:
        try:
            greeting = await admin.greet()
        except FlowiseQueryError as error:
            return Survey(error, error)
        try:
            return Survey(greeting, {flow.id: flow for flow in await admin.chatflows()})
        except FlowiseQueryError as error:
            return Survey(greeting, error)


def _context(settings: UpstreamSettings) -> ssl.SSLContext | None:
    ca: Path | None = settings.tls.ca
    return tls_context(ca) if settings.servers[0].url.scheme == "https" else None
