"""A real prediction of each route's chatflow, straight to Flowise: when its first token and its end come."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from gateway.config import Route
from gateway.config.proxies import Proxy
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World
from gateway.flowise.chatflows import FORM
from gateway.flowise.events import UNREADABLE
from gateway.upstream.flowise_admin import FlowiseQueryError

PATIENCE = 120.0  # seconds, for each answer
LONGEST_LINE = 8 * 1024 * 1024  # bytes; agentflows repeat their whole trace in one
_DATA = b"data:"


class _MeasuredAnswer(Struct):
    """What came. `error`: the text of Flowise's error, which is never shown."""

    first_token: float | None = None
    error: str | None = None
    is_complete: bool = False


async def ask(world: World) -> list[Finding]:
    """One line for each route; nothing without a question."""
    if not world.question:
        return []
    return [finding for route in world.config.routes for finding in await _route(world, route)]


async def _route(world: World, route: Route) -> list[Finding]:
    survey = await world.survey(route.upstream)
    flow = (await world.chatflows(route.upstream)).get(route.chatflow)
    if isinstance(survey.greeting, FlowiseQueryError) or (flow and not flow.answers_predictions):
        return []  # reported by `servers` and `routes`
    if flow is not None and flow.trigger == FORM:
        return [
            warning("ask", route.name, "Not asked, because a form starts its chatflow. Try it in its page.")
        ]
    try:
        async with world.admin(route.upstream) as admin:
            is_streaming = await admin.is_streaming(route.chatflow)
    except FlowiseQueryError:
        return []  # reported by `routes`
    return [await _ask(world, route, is_streaming=is_streaming)]


async def _ask(world: World, route: Route, *, is_streaming: bool) -> Finding:
    """A chatflow that cannot stream is asked without: asked to stream, it never answers when it fails."""
    settings = world.config.upstreams[route.upstream]
    key = settings.api_key.get_secret_value()
    body = {"question": world.question, "streaming": is_streaming}
    began, answer = monotonic(), _MeasuredAnswer()
    try:
        async with (
            _session(world.tls(route.upstream), key, settings.proxy_of(world.url(route.upstream))) as session,
            session.post(
                f"{world.url(route.upstream)}/api/v1/prediction/{route.chatflow}",
                json=body,
                allow_redirects=False,
            ) as response,
        ):
            await _read(response, began, answer)
    except TimeoutError:
        what = f"no complete answer within {PATIENCE:g} s."
        return failed("ask", route.name, f"{what} Read Flowise's log, and try the chatflow in its page.")
    except (aiohttp.ClientError, ValueError):
        return failed("ask", route.name, "The answer broke off. Read Flowise's log.")
    return _judged(route, answer, monotonic() - began)


def _session(tls: ssl.SSLContext | None, key: str, proxy: Proxy | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=True if tls is None else tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=PATIENCE),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        read_bufsize=LONGEST_LINE,
        proxy=None if proxy is None else proxy.url,
        trust_env=False,
    )


async def _read(response: aiohttp.ClientResponse, began: float, answer: _MeasuredAnswer) -> None:
    if response.content_type != "text/event-stream":
        members = _object(await response.read())
        answer.is_complete = response.status == 200
        if response.status != 200:
            answer.error = str(members.get("message"))
        return
    async for line in response.content:
        if not line.startswith(_DATA):
            continue
        event = _object(line[len(_DATA) :])
        if event.get("event") == "token" and event.get("data") and answer.first_token is None:
            answer.first_token = monotonic() - began
        elif event.get("event") == "error":
            answer.error = str(event.get("data"))
        elif event.get("event") == "metadata":
            answer.is_complete = True


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def _judged(route: Route, answer: _MeasuredAnswer, seconds: float) -> Finding:
    if answer.error is not None:
        if answer.error.rstrip().endswith("Unauthorized"):  # captures key-wrong-stream, key-wrong-nonstream
            advice = f"Write the key that the chatflow needs into upstreams.{route.upstream}.api_key."
            return failed("ask", route.name, f"Flowise refuses the API key. {advice}")
        return failed(
            "ask", route.name, "Flowise answers with an error. Try the chatflow in its page, or read its log."
        )
    if not answer.is_complete:
        return failed("ask", route.name, "The answer ended before its end. Read Flowise's log.")
    if answer.first_token is None:
        return ok("ask", route.name, f"the whole answer came after {seconds:.2f} s")
    return ok(
        "ask", route.name, f"first token after {answer.first_token:.2f} s, the end after {seconds:.2f} s"
    )
