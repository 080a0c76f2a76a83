"""Replies of Flowise that are made to cost much: floods of events, large traces, heads and framing without end."""

from __future__ import annotations

from tests.harness.frames import END, METADATA, START, event, token
from tests.harness.raw_upstream import STREAM_HEAD

KILOBYTE, MEGABYTE = 1024, 1024 * 1024


def filled(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def long_event(unit: bytes, size: int) -> bytes:
    return b"data:" + filled(unit, size) + b"\n\n"


# Each is one whole body, sent as fast as the sockets take it.
FLOODS = {
    "comments": filled(b":\n\n", MEGABYTE),
    "comments, CR": filled(b":\r\r", MEGABYTE),
    "comments, CRLF": filled(b":\r\n\r\n", MEGABYTE),
    "comments, mixed line ends": filled(b":\n\r", MEGABYTE),
    "blocks of one letter": filled(b"a\n\n", MEGABYTE),
    "empty data": filled(b"data:\n\n", MEGABYTE),
    "empty data, CR": filled(b"data:\r\r", MEGABYTE),
    "blank lines": filled(b"\n", MEGABYTE),
    "nameless events of 4 KB": filled(long_event(b'{"a":[0,0,0,0],"b":{}},', 4096), 12 * MEGABYTE),
    "nameless objects of 4 KB": filled(b'data:{"a":[' + filled(b"0,", 4000) + b"0]}\n\n", 3 * MEGABYTE),
    "objects with their name last": filled(
        b'data:{"a":[' + filled(b"[],", 60) + b'0],"event":"x"}\n\n', MEGABYTE
    ),
    "cut objects with a name": filled(b'data:{"a":[' + filled(b"[],", 6000) + b'"event"]\n\n', 2 * MEGABYTE),
    "escaped names": filled(b'data:{"\\u0065vent":"usedTool\\u0073"\n\n', MEGABYTE),
    "names in the documented form": filled(b"event:usedTools\n\n", MEGABYTE),
    "own names in the documented form": filled(b"event:mine\ndata:\n\n", MEGABYTE),
    "lines of one letter": filled(filled(b"a\n", 8000) + b"\n", 2 * MEGABYTE),
    "lines of data": filled(filled(b"data\n", 8000) + b"\n", 2 * MEGABYTE),
    "started nodes": filled(event("nextAgentFlow", '{"nodeId":"a","status":"INPROGRESS"}'), MEGABYTE),
    "tokens in another spelling": filled(b'data: {"data":"x","event":"token"}\n\n', MEGABYTE),
    "tools without content": filled(event("tool"), MEGABYTE),
    "one event of many brackets": long_event(b"[],", 3 * MEGABYTE),
    "one event of many line ends": long_event(b"\ndata:", MEGABYTE),
    "traces": filled(event("agentFlowExecutedData", "[0]"), MEGABYTE),
}


def in_chunks(body: bytes, size: int) -> bytes:
    """Chunked framing with chunks of `size` bytes."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def array(unit: str, size: int) -> str:
    """As much of a JSON array as fits."""
    return "[" + ",".join([unit] * (size // (len(unit) + 1))) + "]"


def entry(messages: str) -> str:
    return f'{{"nodeId":"a","data":{{"input":{{"messages":{messages}}}}}}}'


TRACES = {
    "numbers": "0",
    "arrays": "[]",
    "objects": "{}",
    "empty entries": entry("[]"),
    "entries of many messages": entry(array("{}", 3 * KILOBYTE)),
    "entries of many numbers": entry(array("0", 3 * KILOBYTE)),
    "turns without tokens": entry(array('{"role":"assistant","usage_metadata":{}}', 40 * KILOBYTE)),
    "turns with other tokens": entry(array('{"role":"assistant","usage_metadata":[]}', 40 * KILOBYTE)),
    "large metadata": '{"data":{"output":{"usageMetadata":' + array("0", 4000) + "}}}",
    "deep nesting": "[" * 200 + "]" * 200,
    "escapes": '"' + "\\u0041" * 1000 + '"',
}


LAST = b"0\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _stream(body: bytes, chunk: int = 65536) -> bytes:
    return STREAM_HEAD + in_chunks(START + token("x") + body + METADATA + END, chunk) + LAST


def _json(body: bytes) -> bytes:
    return JSON_HEAD % len(body) + body


def _traces() -> dict[str, bytes]:
    """Each as an event of a stream and as a member of a JSON answer."""
    found = {}
    for name, unit in TRACES.items():
        trace = array(unit, 255 * KILOBYTE)
        found[f"trace of {name}"] = _stream(event("agentFlowExecutedData", trace))
        found[f"answer with {name}"] = _json(f'{{"text":"x","agentFlowExecutedData":{trace}}}'.encode())
    return found


# Whole replies as they leave Flowise, after which the connection closes; the status that the client gets, and how the
# request ends for the log.
BROKEN = {
    "a head without end": (b"HTTP/1.1 200 OK\r\n" + filled(b"X: y\r\n", MEGABYTE), 502, "upstream_error"),
    "one field without end": (b"HTTP/1.1 200 OK\r\nX: " + filled(b"y", MEGABYTE), 502, "upstream_error"),
    "one name without end": (b"HTTP/1.1 200 OK\r\n" + filled(b"x", MEGABYTE), 502, "upstream_error"),
    "a status line without end": (b"HTTP/1.1 200 " + filled(b"x", MEGABYTE), 502, "upstream_error"),
    "129 fields": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"Content-Length: 2\r\n\r\n{}", 502, "upstream_error"),
    "interim responses without end": (filled(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", MEGABYTE), 502, "upstream_error"),
    "blank lines before the head": (filled(b"\r\n", MEGABYTE), 502, "upstream_error"),
    "no HTTP": (filled(b"\x00", MEGABYTE), 502, "upstream_error"),
    "a chunk size without end": (STREAM_HEAD + filled(b"0", MEGABYTE), 200, "truncated"),
    "a chunk extension without end": (STREAM_HEAD + b"5;" + filled(b"x", MEGABYTE), 200, "truncated"),
    "trailers without end": (STREAM_HEAD + b"0\r\n" + filled(b"X: y\r\n", MEGABYTE), 200, "truncated"),
    "many trailers": (STREAM_HEAD + in_chunks(START + METADATA + END, 999) + b"0\r\n" + b"X: y\r\n" * 9000 + b"\r\n", 200, "empty"),
    "many Content-Type fields": (
        b"HTTP/1.1 200 OK\r\n" + b"Content-Type: application/json\r\n" * 100 + b"Content-Length: 2\r\n\r\n{}", 502, "upstream_error",
    ),
    "Content-Type of parameters": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream" + b";a=b" * 8000 + b"\r\nContent-Length: 2\r\n\r\n\n\n", 200, "truncated",
    ),
    "a web page": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1048576\r\n\r\n" + filled(b"<", MEGABYTE), 502, "upstream_error",
    ),
    "compressed nothings": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + in_chunks(b"\x1f\x8b" + b"\0" * MEGABYTE, 65536) + LAST,
        502, "upstream_error",
    ),
    "surplus behind the end": (STREAM_HEAD + in_chunks(START + METADATA + END, 999) + LAST + filled(b"x", MEGABYTE), 200, "empty"),
    "second responses behind the first": (
        STREAM_HEAD + in_chunks(START + METADATA + END, 999) + LAST + filled(JSON_HEAD % 2 + b"{}", MEGABYTE), 200, "empty",
    ),
    "an answer much shorter than its length": (JSON_HEAD % (10**15) + b"{}", 200, "truncated"),
    "an error of one long message": (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 1048598\r\n\r\n"
        b'{"message":"' + filled(b"\\u0041", MEGABYTE - 4) + b'"}',
        500, "upstream_error",
    ),
}  # fmt: skip

TABLE = {
    **{name: _stream(body) for name, body in FLOODS.items()},
    "comments in chunks of one byte": _stream(filled(b":\n\n", MEGABYTE // 4), chunk=1),
    **_traces(),
    **{name: data for name, (data, _, _) in BROKEN.items()},
}
