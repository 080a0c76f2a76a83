"""What a Flowise has: its version, its chatflows, what each can do. For commands; a serving gateway never asks this.

Every failure becomes one sentence: what is wrong, then what would be right. None holds the API key.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import msgspec
from msgspec import Struct

from gateway.causes import EXPIRED, NOT_YET_VALID, UNKNOWN_AUTHORITY, WRONG_NAME, cause_of
from gateway.config import Url
from gateway.config.proxies import Proxy
from gateway.flowise.chatflows import Chatflow, NotAListError, Page, read_page
from gateway.flowise.error_texts import message, missing_chatflow
from gateway.flowise.events import UNREADABLE

TIMEOUT = 10.0  # seconds, for each request
LARGEST = 64 * 1024 * 1024  # bytes of one response
PAGE = 25  # chatflows; each comes with all its nodes
MOST_PAGES = 400
AT_ONCE = 8  # connections

Failure = Literal[
    "unreachable", "tls", "timeout", "not_flowise", "broken", "key", "no_key", "no_permission", "missing"
]

_API = re.compile(r"/api(/v1(/.*)?)?$", re.IGNORECASE)


class FlowiseQueryError(Exception):
    """Flowise did not answer as it should; the text is the sentence to show."""

    def __init__(self, kind: Failure, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Greeting(Struct, frozen=True):
    """The answer of `/api/v1/version`. `seconds`: how long it took. `date`: its Date field, often empty."""

    version: str
    seconds: float
    date: str


class Response(Struct, frozen=True):
    """A whole response of Flowise."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def members(self) -> Mapping[str, Any]:
        """The JSON object in it; empty if it is something else."""
        try:
            value = msgspec.json.decode(self.body)
        except UNREADABLE:
            return {}
        return value if isinstance(value, dict) else {}


class Advice(Struct, frozen=True):
    """Ends of sentences that depend on the command: what to do about a missing authority or key."""

    authority: str
    key: str


class FlowiseAdmin:
    """Open within `async with`."""

    def __init__(
        self,
        url: Url,
        api_key: str,
        tls: ssl.SSLContext | None,
        advice: Advice,
        proxy: Proxy | None = None,
    ) -> None:
        """`proxy`: through which it is asked."""
        self._proxy = None if proxy is None else proxy.url
        self.url = url
        self._api_key = api_key
        self._tls = tls
        self._advice = advice
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls, limit=AT_ONCE)
        headers = {"Accept": "application/json", "User-Agent": "flowise-gateway"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=headers,
            proxy=self._proxy,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def greet(self) -> Greeting:
        """Whether a Flowise answers at all; this needs no key.

        Raises:
            FlowiseQueryError: none does.
        """
        began = monotonic()
        response = await self._get("version")
        version = response.members().get("version")
        if response.status != 200 or not isinstance(version, str):
            raise FlowiseQueryError("not_flowise", self._no_flowise(response))
        return Greeting(version, monotonic() - began, response.headers.get("Date", ""))

    async def chatflows(self) -> tuple[Chatflow, ...]:
        """Every chatflow that the key may see, the newest first.

        Raises:
            FlowiseQueryError: the key is not accepted, or Flowise does not answer.
        """
        found: dict[str, Chatflow] = {}
        for number in range(1, MOST_PAGES + 1):
            page = await self._page(number)
            found.update((flow.id, flow) for flow in page.chatflows)
            if page.total is None or not page.chatflows or len(found) >= page.total:
                break
        return tuple(found.values())

    async def is_streaming(self, flow_id: str) -> bool:
        """Whether predictions of a chatflow can stream; this needs no key.

        Raises:
            FlowiseQueryError: `missing`: there is no such chatflow; `broken`: Flowise fails to look; or it does not
                answer.
        """
        answer = await self._about("chatflows-streaming", flow_id)
        return answer.get("isStreaming") is True

    async def uploads(self, flow_id: str) -> frozenset[str]:
        """What the chat window of a chatflow offers to send: images, documents, speech; this needs no key.

        Raises:
            FlowiseQueryError: as `is_streaming`.
        """
        answer = await self._about("chatflows-uploads", flow_id)
        offers = {
            "images": "isImageUploadAllowed",
            "documents": "isRAGFileUploadAllowed",
            "speech": "isSpeechToTextEnabled",
        }
        return frozenset(name for name, member in offers.items() if answer.get(member) is True)

    async def _page(self, number: int) -> Page:
        response = await self._get("chatflows", page=str(number), limit=str(PAGE))
        if response.status in (401, 403):
            raise self._no_access(response.status)
        try:
            return read_page(response.body if response.status == 200 else b"")
        except NotAListError:
            raise FlowiseQueryError("not_flowise", self._no_flowise(response)) from None

    async def _about(self, path: str, flow_id: str) -> Mapping[str, Any]:
        response = await self._get(f"{path}/{flow_id}")
        if response.status != 200 and missing_chatflow(message(response.body), flow_id):
            raise FlowiseQueryError("missing", f"Flowise at {self.url} has no such chatflow.")
        if response.status >= 500:  # also for a chatflow that it does not have, but then it says so
            what = f"Flowise at {self.url} fails to look up chatflow {flow_id} (status {response.status})."
            raise FlowiseQueryError("broken", f"{what} Read its log, and see whether its database answers.")
        if response.status != 200 or not response.members():
            raise FlowiseQueryError("not_flowise", self._no_flowise(response))
        return response.members()

    async def _get(self, path: str, **query: str) -> Response:
        if self._session is None:
            raise AssertionError("not open")
        try:
            async with self._session.get(
                f"{self.url}/api/v1/{path}", params=query, allow_redirects=False
            ) as response:
                return Response(response.status, await self._body(response), response.headers)
        except TimeoutError:
            sentence = f"{self.url} did not answer within {TIMEOUT:g} s. See whether Flowise is overloaded."
            raise FlowiseQueryError("timeout", sentence) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise FlowiseQueryError("tls", self._bad_certificate(error.certificate_error)) from None
        except (aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
            sentence = f"{self.url} does not speak TLS ({_reason(error)}). Write http:// if it has none."
            raise FlowiseQueryError("tls", sentence) from None
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            what = f"{self.url} cannot be reached through the proxy of the environment"
            sentence = (
                f"{what} ({cause_of(error).words}). Mend http_proxy or https_proxy, or leave out use_proxy."
            )
            raise FlowiseQueryError("unreachable", sentence) from None
        except aiohttp.ClientConnectorDNSError:
            sentence = f"The host name of {self.url} is not known. Write one that this machine can resolve."
            raise FlowiseQueryError("unreachable", sentence) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            sentence = f"No Flowise answers at {self.url} ({_reason(error)}). Start it, or write its address."
            raise FlowiseQueryError("unreachable", sentence) from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > LARGEST:
                sentence = f"{self.url} sent more than {LARGEST >> 20} MiB for one page of chatflows."
                raise FlowiseQueryError("not_flowise", f"{sentence} See whether a chatflow is that large.")
        return bytes(body)

    def _bad_certificate(self, error: Exception) -> str:
        cause = cause_of(error)
        if cause == WRONG_NAME:
            return (
                f"The certificate of {self.url} is for another host name. Write the name that it has,"
                " or renew it with this one."
            )
        if cause == EXPIRED:
            return f"The certificate of {self.url} has expired. Renew it, and check this machine's clock."
        if cause == NOT_YET_VALID:
            return f"The certificate of {self.url} is not valid yet. Check this machine's clock."
        if cause.label == UNKNOWN_AUTHORITY.label:
            return f"The certificate of {self.url} is not from a known authority. {self._advice.authority}"
        return f"The certificate of {self.url} is refused ({cause.words}). Issue one without that fault."

    def _no_flowise(self, response: Response) -> str:
        if shorter := without_api(self.url):
            return f"{self.url} ends in the path of the API, which is added to it. Write {shorter}."
        if 300 <= response.status < 400:
            return f"{self.url} redirects (status {response.status}). Write the URL to which it leads."
        what = f"{self.url} answers, but not as Flowise does (status {response.status})."
        return f"{what} Write the URL of Flowise itself, like http://127.0.0.1:3000."

    def _no_access(self, status: int) -> FlowiseQueryError:
        if not self._api_key:
            sentence = (
                f"{self.url} wants an API key. Create one in Flowise, under API Keys, and {self._advice.key}."
            )
            return FlowiseQueryError("no_key", sentence)
        if status == 403:
            what = f"{self.url} does not let this API key list chatflows."
            advice = "Give it chatflows:view and agentflows:view in Flowise, under API Keys."
            return FlowiseQueryError("no_permission", f"{what} {advice}")
        what = f"{self.url} does not accept the API key."
        return FlowiseQueryError(
            "key", f"{what} Copy one from Flowise, under API Keys, and {self._advice.key}."
        )


def without_api(url: Url) -> str:
    """The URL up to `/api/v1`, where that of a prediction was copied, or `/api`; empty if it has neither."""
    found = _API.search(url.prefix)
    return str(url)[: len(str(url)) - len(url.prefix) + found.start()] if found else ""


def _reason(error: BaseException) -> str:
    """A few words; never the URL, and never what was sent."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "SSL error").lower().replace("_", " ")
    if isinstance(number, int) and number > 0:
        return os.strerror(number)  # uvloop rewords it
    return type(error).__name__
