"""The HTTP of the live page: its files, its stream of events, and the request that ends a run.

The files have no data, so they need no token; a person types it into the page, which sends it with what has data. The
page loads nothing from elsewhere, and its policy (CSP) lets it run nothing but its own files.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aiohttp import hdrs

from gateway import web
from gateway.exchange import SERVER
from gateway.page.feed import Feed, TooManyViewersError
from gateway.pipeline import json_response

if TYPE_CHECKING:
    from aiohttp_sse import EventSourceResponse

SEND_WITHIN = 10.0  # seconds; a viewer that takes nothing for so long is dropped
FOLDER = Path(__file__).parents[1] / "page" / "static"
INDEX, EVENTS, RUNS, END = "/", "/page/events", "/page/runs/", "/end"
LONGEST_KEY = 64  # characters
FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        INDEX: ("index.html", "text/html"),
        "/page/page.css": ("page.css", "text/css"),
        "/page/icon.svg": ("icon.svg", "image/svg+xml"),
        **{
            f"/page/{name}.js": (f"{name}.js", "text/javascript")
            for name in ("main", "stream", "table", "charts", "views", "text")
        },
    }
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.SERVER: SERVER,
    }
)
_SAME_SITE = ("same-origin", "none")
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class AdminPath(NamedTuple):
    """What answers a path of the admin port."""

    answer: Answer
    methods: tuple[str, ...] = (hdrs.METH_GET, hdrs.METH_HEAD)
    needs_token: bool = True


class LivePage:
    """Finds what answers a path. `has_token`: whether the admin port asks for one."""

    def __init__(self, feed: Feed, has_token: Callable[[], bool]) -> None:
        self.feed = feed
        self._has_token = has_token
        self._files: dict[str, bytes] = {}

    @property
    def names(self) -> list[str]:
        """The paths that a person may want; empty if there is no page."""
        return [INDEX] if self.feed.is_on else []

    def find(self, path: str) -> AdminPath | None:
        """What answers this path; None: it is none of the page, or the page is off."""
        if not self.feed.is_on:
            return None
        if path in FILES:
            return AdminPath(self._file, needs_token=False)
        if path == EVENTS:
            return AdminPath(self._events, (hdrs.METH_GET,))
        if path.startswith(RUNS) and path.endswith(END) and len(path) > len(RUNS + END):
            key = path[len(RUNS) : -len(END)][:LONGEST_KEY]
            return AdminPath(partial(self._end, key), (hdrs.METH_POST,))
        return None

    async def _file(self, request: web.BaseRequest) -> web.Response:
        name, content_type = FILES[request.path]
        if name not in self._files:
            self._files[name] = await asyncio.to_thread((FOLDER / name).read_bytes)
        return web.Response(
            body=self._files[name], content_type=content_type, charset="utf-8", headers=HEADERS
        )

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        """The state once a second, until the viewer leaves or is too slow."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        event_source = await asyncio.to_thread(_load_event_source)  # before it counts: it may leave meanwhile
        try:
            messages = self.feed.join()
        except TooManyViewersError:
            return _text(
                503, "Others look at this page already, as many as may. Close one of them, and try again."
            )
        response = event_source(headers=HEADERS, send_timeout=SEND_WITHIN)
        try:
            await response.prepare(request)
            async with response:
                async for message in messages:
                    await response.send(message)
        except (TimeoutError, ConnectionError):  # its connection is gone, or was given up
            pass
        finally:
            self.feed.leave()
        return response

    async def _end(self, key: str, request: web.BaseRequest) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if await self.feed.end(key, request.remote or ""):
            return json_response({"ended": True})
        return _text(404, "There is no such run. It has ended already.")

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Why a page of another site may not do this in the browser of a person who may."""
        host = request.headers.get(hdrs.HOST, "")
        origin = request.headers.get(hdrs.ORIGIN)
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in _SAME_SITE or (origin is not None and urlsplit(origin).netloc != host):
            return _text(403, "This request comes from a page of another site. Use the page of this port.")
        if not self._has_token() and not _is_of_this_machine(host):
            return _text(
                403,
                "Without a token this page answers to localhost and to addresses only, so that no other site can"
                " pretend to be it. Use one of them, or write a token into admin.token.",
            )
        return None


def _is_of_this_machine(host: str) -> bool:
    """Whether a Host names `localhost` or an address: a name of somebody else's may lead to this machine, too."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _load_event_source() -> type[EventSourceResponse]:
    """It loads aiohttp's framework for applications, 1 MB, so only for a viewer; it takes some 10 ms."""
    from aiohttp_sse import EventSourceResponse  # noqa: PLC0415 - see above

    return EventSourceResponse


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=HEADERS)
