"""What the checks look at: the configuration, and what each Flowise answered, which is asked once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from msgspec import Struct
from yarl import URL

from gateway.config import Config, Route, UpstreamSettings, Url
from gateway.flowise.chatflows import Chatflow
from gateway.upstream.flowise_admin import Advice, FlowiseAdmin, FlowiseQueryError, Greeting
from gateway.upstream.pool import tls_context


class Survey(Struct, frozen=True):
    """What one Flowise answered: a greeting and its chatflows by id, or the error instead of each."""

    greeting: Greeting | FlowiseQueryError
    chatflows: Mapping[str, Chatflow] | FlowiseQueryError

    @property
    def is_answered(self) -> bool:
        return not isinstance(self.greeting, FlowiseQueryError)


class World:
    """One examination. `question`: to ask every chatflow; empty: nothing is asked."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], now: Callable[[], float], question: str = ""
    ) -> None:
        self.config = config
        self.environ = environ
        self.now = now
        self.question = question
        self._surveys: dict[tuple[str, Url], Survey] = {}
        self._locks = {place: asyncio.Lock() for name in config.upstreams for place in self.servers(name)}
        self._tls = {name: _context(settings) for name, settings in config.upstreams.items()}

    def servers(self, upstream: str) -> list[tuple[str, Url]]:
        """Each server of an upstream, by the upstream's name and its own URL."""
        return [(upstream, server.url) for server in self.config.upstreams[upstream].servers]

    def subject(self, place: tuple[str, Url]) -> str:
        """How a finding names a server: by its upstream, and by its address if that has several."""
        upstream, url = place
        return upstream if len(self.servers(upstream)) == 1 else f"{upstream} {url.netloc}{url.prefix}"

    def url(self, upstream: str) -> Url:
        """Of a server that answers, if one has; else of the first."""
        urls = [url for _, url in self.servers(upstream)]
        surveys = [(url, self._surveys.get((upstream, url))) for url in urls]
        answering = (url for url, survey in surveys if survey is not None and survey.is_answered)
        return next(answering, urls[0])

    def admin(self, upstream: str, url: Url | None = None) -> FlowiseAdmin:
        """Of this server; without a URL of one that answers."""
        settings = self.config.upstreams[upstream]
        place = f"upstreams.{upstream}"
        advice = Advice(
            authority=f"Write the file of its authority into {place}.tls.ca.",
            key=f"write it into {place}.api_key",
        )
        key = settings.api_key.get_secret_value()
        url = url or self.url(upstream)
        return FlowiseAdmin(url, key, self._tls[upstream], advice, settings.proxy_of(url))

    def tls(self, upstream: str) -> ssl.SSLContext | None:
        return self._tls[upstream]

    def routes_of(self, upstream: str) -> list[Route]:
        return [route for route in self.config.routes if route.upstream == upstream]

    async def survey_of(self, place: tuple[str, Url]) -> Survey:
        """What a server answers; asked by the first that wants to know."""
        async with self._locks[place]:
            if place not in self._surveys:
                self._surveys[place] = await _ask(self.admin(*place))
            return self._surveys[place]

    async def survey(self, upstream: str) -> Survey:
        """What the first server of an upstream that answers says; else what the first one does."""
        surveys = [await self.survey_of(place) for place in self.servers(upstream)]
        return next((survey for survey in surveys if survey.is_answered), surveys[0])

    async def chatflows(self, upstream: str) -> Mapping[str, Chatflow]:
        """The chatflows of a Flowise by id, as far as the key of any upstream to this server may list them."""
        urls = {url for _, url in self.servers(upstream)}
        found: dict[str, Chatflow] = {}
        for name in self.config.upstreams:
            if any(url in urls for _, url in self.servers(name)):
                listed = (await self.survey(name)).chatflows
                found |= {} if isinstance(listed, FlowiseQueryError) else listed
        return found

    def has_key(self, upstream: str) -> bool:
        return bool(self.config.upstreams[upstream].api_key.get_secret_value())

    async def without_their_key(self, upstream: str) -> list[tuple[Route, Chatflow]]:
        """The routes of an upstream without a key whose chatflow wants one, as far as chatflows may be listed."""
        if self.has_key(upstream):
            return []
        listed = await self.chatflows(upstream)
        found = [(route, listed.get(route.chatflow)) for route in self.routes_of(upstream)]
        return [(route, flow) for route, flow in found if flow is not None and flow.key_id]

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
            *(secret for proxy in config.auth.proxies.by_scheme.values() for secret in proxy.secrets),
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
    return tls_context(ca) if any(server.url.scheme == "https" for server in settings.servers) else None
