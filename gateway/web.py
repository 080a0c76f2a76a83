"""aiohttp's server, by the names that `aiohttp.web` has for it.

That module would load aiohttp's framework for applications as well, 1 MB that a process of the gateway does not use.
"""

from aiohttp.helpers import RequestKey
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

__all__ = (
    "BaseRequest",
    "RequestHandler",
    "RequestKey",
    "RequestPayloadError",
    "Response",
    "Server",
    "StreamResponse",
)
