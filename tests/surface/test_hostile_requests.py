"""Whatever is odd about a request is refused by the gateway itself, in clear words; Flowise never hears of it."""

from __future__ import annotations

import pytest
from harness.gateway import FLOW
from harness.wire import request

from surface.asking import JSON_KEYS, PREDICT, QUESTION, answering

HOST = b"Host: gateway\r\n"
MARK = "zqxSECRETzqx"
PING = "/api/v1/ping"
FILE = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.png"
ROUTE = {"max_body": "2KiB", "max_question": 100, "max_word": 20, "cors": {"origins": ["https://app.example.com"]}}


def get(path, method="GET"):
    return request(method, path)


def post(body, path=PREDICT, **headers):
    return request("POST", path, body, **headers)


def json(text):
    return post(text if isinstance(text, bytes) else text.encode())


def form(text):
    return post(text.encode(), Content_Type="application/x-www-form-urlencoded")


def multipart(*parts):
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return post(body, Content_Type="multipart/form-data; boundary=b")


def raw(fields, body=QUESTION):
    """A prediction with these header lines and no others but Host."""
    return b"POST " + PREDICT.encode() + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


JSON_TYPE = b"Content-Type: application/json\r\n"
CHUNKED = JSON_TYPE + b"Transfer-Encoding: chunked\r\n"
TYPED = JSON_TYPE + b"Content-Length: 17\r\n"

# name: (request, status, code, what the message must say)
TARGETS = {
    "encoded dot": (get("/api/v1/%2e/ping"), 400, "bad_request", "'.' or '..'"),
    "two encoded dots": (get("/api/v1/x/%2e%2E/ping"), 400, "bad_request", "'.' or '..'"),
    "plain dots": (get("/api/v1/x/../ping"), 400, "bad_request", "'.' or '..'"),
    "dots in the flow": (post(QUESTION, "/api/v1/prediction/.."), 400, "bad_request", "'.' or '..'"),
    "encoded slash": (get(f"/api/v1/prediction%2f{FLOW}"), 400, "bad_request", "encoded '/'"),
    "encoded slash in the flow": (post(QUESTION, f"{PREDICT}%2Fx"), 400, "bad_request", "encoded '/'"),
    "encoded backslash": (get("/api/v1%5cping"), 400, "bad_request", "'\\'"),
    "plain backslash": (get("/api/v1\\ping"), 400, "bad_request", "'\\'"),
    "two slashes": (get("/api//v1/ping"), 400, "bad_request", "empty segments"),
    "two slashes in front": (get("//api/v1/ping"), 400, "bad_request", "empty segments"),
    "a path that looks like a host": (get("//evil.example/api/v1/ping"), 400, "bad_request", "empty segments"),
    "semicolon": (get("/api/v1/ping;x=1"), 404, "unknown_route", "not served"),
    "semicolon in the flow": (post(QUESTION, f"{PREDICT};x"), 404, "unknown_route", "chatflow"),
    "encoded NUL": (get("/api/v1/ping%00"), 400, "bad_request", "control character"),
    "encoded newline": (get("/api/v1/ping%0d%0aX:y"), 400, "bad_request", "control character"),
    "double encoding": (get("/api/v1/%252e%252e/ping"), 400, "bad_request", "'%'"),
    "double encoded slash": (get(f"/api/v1/prediction%252f{FLOW}"), 400, "bad_request", "'%'"),
    "invalid UTF-8": (get("/api/v1/%ff"), 400, "bad_request", "UTF-8"),
    "overlong UTF-8": (get("/api/v1/%c0%ae%c0%ae/ping"), 400, "bad_request", "UTF-8"),
    "half an escape": (get("/api/v1/ping%2"), 400, "bad_request", "hexadecimal"),
    "no escape at all": (get("/api/v1/%zz"), 400, "bad_request", "hexadecimal"),
    "absolute form": (get("http://gateway/api/v1/ping"), 400, "bad_request", "not a full URL"),
    "absolute form elsewhere": (get("http://evil.example/api/v1/ping"), 400, "bad_request", "not a full URL"),
    "asterisk": (get("*", "OPTIONS"), 400, "bad_request", "'*'"),
    "no version": (b"GET /api/v1/ping\r\n\r\n", 400, "bad_request", "HTTP/1.1"),
    "CONNECT": (get("gateway:443", "CONNECT"), 400, "bad_request", "must be a path"),
    "upper case": (get("/API/v1/ping"), 404, "unknown_route", "not served"),
    "upper case endpoint": (post(QUESTION, f"/api/v1/Prediction/{FLOW}"), 404, "unknown_route", "not served"),
    "upper case flow": (post(QUESTION, f"/api/v1/prediction/{FLOW.upper()}"), 404, "unknown_route", "chatflow"),
    "upper case name": (post(QUESTION, "/api/v1/prediction/CHAT"), 404, "unknown_route", "chatflow"),
    "trailing slash": (post(QUESTION, f"{PREDICT}/"), 400, "bad_request", "end in '/'"),
    "trailing slash of ping": (get(f"{PING}/"), 400, "bad_request", "end in '/'"),
    "no flow": (post(QUESTION, "/api/v1/prediction/"), 400, "bad_request", "end in '/'"),
    "no flow at all": (post(QUESTION, "/api/v1/prediction"), 404, "unknown_route", "not served"),
    "unknown flow": (post(QUESTION, "/api/v1/prediction/other"), 404, "unknown_route", "chatflow id"),
    "unknown flow of a GET": (get("/api/v1/chatflows-streaming/other"), 404, "unknown_route", "chatflow id"),
    "root": (get("/"), 404, "unknown_route", "not served"),
    "Flowise's admin surface": (get("/api/v1/chatflows"), 404, "unknown_route", "not served"),
    "Flowise's version": (get("/api/v1/version"), 404, "unknown_route", "not served"),
    "a later endpoint": (get("/api/v1/node-icon/x"), 404, "unknown_route", "not served"),
    "a segment too many": (post(QUESTION, f"{PREDICT}/x"), 404, "unknown_route", "not served"),
    "query on a prediction": (post(QUESTION, f"{PREDICT}?a=1"), 400, "bad_request", "no query"),
    "key in the query": (post(QUESTION, f"{PREDICT}?apiKey={MARK}"), 400, "bad_request", "no query"),
    "key in a file's query": (get(f"{FILE}&api_key={MARK}"), 400, "bad_request", "not one of"),
    "query on ping": (get(f"{PING}?x"), 400, "bad_request", "no query"),
    "file without a name": (get(FILE.rpartition("&")[0]), 400, "bad_request", "fileName is missing"),
    "file name twice": (get(f"{FILE}&fileName=b"), 400, "bad_request", "once"),
    "file name with dots": (get(FILE.replace("a.png", "..%2fa")), 400, "bad_request", "bare file name"),
    "file of a bad chatId": (get(FILE.replace("chatId=c", "chatId=a/b")), 400, "bad_request", "chatId"),
    "file of a chatId with dots": (get(FILE.replace("chatId=c", "chatId=a..b")), 400, "bad_request", "chatId"),
    "bad chatId in a path": (get(f"/api/v1/chatmessage/abort/{FLOW}/a%20b", "PUT"), 400, "bad_request", "chatId"),
}

METHODS = {
    "GET on a prediction": (get(PREDICT), "POST, OPTIONS"),
    "HEAD on a prediction": (get(PREDICT, "HEAD"), "POST, OPTIONS"),
    "PUT on a prediction": (request("PUT", PREDICT, QUESTION), "POST, OPTIONS"),
    "DELETE on a prediction": (get(PREDICT, "DELETE"), "POST, OPTIONS"),
    "TRACE": (get(PREDICT, "TRACE"), "POST, OPTIONS"),
    "PROPFIND": (get(PING, "PROPFIND"), "GET, HEAD, OPTIONS"),
    "POST on abort": (post(b"{}", f"/api/v1/chatmessage/abort/{FLOW}/c"), "PUT, OPTIONS"),
    "POST on chatflows-streaming": (post(b"{}", f"/api/v1/chatflows-streaming/{FLOW}"), "GET, HEAD, OPTIONS"),
}

BODIES = {
    "array": (json("[1]"), 400, "bad_request", "object"),
    "text": (json('"hi"'), 400, "bad_request", "object"),
    "nothing": (raw(JSON_TYPE + b"Content-Length: 0\r\n", b""), 400, "bad_request", "not valid JSON"),
    "no body and no length": (raw(JSON_TYPE, b""), 400, "bad_request", "not valid JSON"),
    "malformed": (json('{"question":}'), 400, "bad_request", "JSON"),
    "two documents": (json("{}{}"), 400, "bad_request", "JSON"),
    "trailing comma": (json('{"question":"a",}'), 400, "bad_request", "JSON"),
    "NaN": (json('{"temperature":NaN}'), 400, "bad_request", "not valid JSON"),
    "Infinity": (json('{"x":-Infinity}'), 400, "bad_request", "JSON"),
    "not UTF-8": (json(b'{"question":"\xff"}'), 400, "bad_request", "UTF-8"),
    "too deep": (json('{"a":' + "[" * 65 + "]" * 65 + "}"), 400, "bad_request", "64"),
    "duplicate chatId": (json('{"chatId":"a","chatId":"b"}'), 400, "bad_request", "chatId"),
    "duplicate in disguise": (json('{"chatId":"a","chat\\u0049d":"b"}'), 400, "bad_request", "chatId"),
    "duplicate overrideConfig": (json('{"overrideConfig":{},"overrideConfig":{}}'), 400, "bad_request", "overrideConfig"),
    "duplicate sessionId": (
        json('{"overrideConfig":{"sessionId":"a","sessionId":"b"}}'), 400, "bad_request", "sessionId",
    ),
    "duplicate vars": (json('{"overrideConfig":{"vars":{},"vars":{}}}'), 400, "bad_request", "vars"),
    "forbidden override": (json('{"overrideConfig":{"temperature":1}}'), 400, "bad_request", "temperature"),
    "forbidden var": (json('{"overrideConfig":{"vars":{"x":1}}}'), 400, "bad_request", "vars.x"),
    "overrideConfig as text": (json('{"overrideConfig":"x"}'), 400, "bad_request", "object"),
    "a stored file of somebody": (json('{"question":"FILE-STORAGE::[\\"a\\"]"}'), 400, "bad_request", "FILE-STORAGE::"),
    "a stored file in disguise": (json('{"x":["FILE\\u002dSTORAGE::a"]}'), 400, "bad_request", "FILE-STORAGE::"),
    "question too long": (json('{"question":"%s"}' % ("ab " * 34)), 413, "too_large", "100"),
    "word too long": (json('{"question":"%s"}' % ("a" * 21)), 413, "too_large", "20"),
    "uploads are off": (json('{"uploads":[{"data":"x"}]}'), 400, "bad_request", "uploads are off"),
    "file where uploads are off": (
        multipart(b'name="files"; filename="a"\r\n\r\nx'), 400, "bad_request", "uploads are off",
    ),
    "chatId with a slash": (json('{"chatId":"a/b"}'), 400, "bad_request", "chatId"),
    "chatId with dots": (json('{"chatId":"a..b"}'), 400, "bad_request", "chatId"),
    "chatId as a number": (json('{"chatId":1}'), 400, "bad_request", "chatId"),
    "chatId too long": (json('{"chatId":"%s"}' % ("a" * 129)), 400, "bad_request", "chatId"),
    "empty chatId": (json('{"chatId":""}'), 400, "bad_request", "chatId"),
    "sessionId with a newline": (json('{"overrideConfig":{"sessionId":"a\\n"}}'), 400, "bad_request", "sessionId"),
    "question as a list": (json('{"question":["a"]}'), 400, "bad_request", "question"),
    "form: brackets": (form("question=a&overrideConfig[vars][x]=1"), 400, "bad_request", "brackets"),
    "form: encoded brackets": (form("overrideConfig%5Bx%5D=1"), 400, "bad_request", "brackets"),
    "form: repeated": (form("question=a&question=b"), 400, "bad_request", "twice"),
    "form: half an escape": (form("question=%2"), 400, "bad_request", "hexadecimal"),
    "form: not UTF-8": (form("question=%ff"), 400, "bad_request", "UTF-8"),
    "form: overrideConfig": (form("overrideConfig=%7B%7D"), 400, "bad_request", "application/json"),
    "multipart: brackets": (multipart(b'name="a[b]"\r\n\r\nx'), 400, "bad_request", "brackets"),
    "multipart: repeated": (
        multipart(b'name="question"\r\n\r\na', b'name="question"\r\n\r\nb'), 400, "bad_request", "twice",
    ),
    "multipart: broken off": (
        post(b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nx', Content_Type="multipart/form-data; boundary=b"),
        400, "bad_request", "ends too early",
    ),
    "multipart: no boundary": (post(QUESTION, Content_Type="multipart/form-data"), 400, "bad_request", "multipart form"),
    "text/plain": (post(QUESTION, Content_Type="text/plain"), 400, "bad_request", "application/json"),
    "almost JSON": (post(QUESTION, Content_Type="application/jsonx"), 400, "bad_request", "application/json"),
    "no Content-Type": (raw(b"Content-Length: 17\r\n"), 400, "bad_request", "application/json"),
    "gzip": (post(b"\x1f\x8b" + QUESTION, Content_Encoding="gzip"), 400, "bad_request", "Content-Encoding"),
    "deflate": (post(QUESTION, Content_Encoding="deflate"), 400, "bad_request", "Content-Encoding"),
    "gzip after identity": (
        raw(TYPED + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"), 400, "bad_request", "Content-Encoding",
    ),
    "another expectation": (post(QUESTION, Expect="a-pony"), 400, "bad_request", "100-continue"),
    "announced too large": (raw(JSON_TYPE + b"Content-Length: 2049\r\n", b""), 413, "too_large", "2048"),
    "announced far too large": (raw(JSON_TYPE + b"Content-Length: 99999999999\r\n", b""), 413, "too_large", "2048"),
    "counted too large": (
        raw(CHUNKED, b"".join(b"400\r\n%b\r\n" % (b" " * 1024) for _ in range(3))), 413, "too_large", "2048",
    ),
}

CREDENTIALS = {
    "bearer": {"Authorization": f"Bearer {MARK}"},
    "basic": {"Authorization": f"Basic {MARK}"},
    "empty": {"Authorization": ""},
    "key": {"X-API-Key": MARK},
    "both": {"Authorization": f"Bearer {MARK}", "X-API-Key": MARK},
}

UNPARSABLE = {
    "two Content-Types": raw(TYPED + JSON_TYPE),
    "two different Content-Types": raw(TYPED + b"Content-Type: text/plain\r\n"),
    "broken chunk size": raw(CHUNKED, b"xyz\r\n{}\r\n0\r\n\r\n"),
    "negative chunk size": raw(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than said": raw(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"),
    "chunk size too large": raw(CHUNKED, b"fffffffffffffffff\r\n{}"),
    "two lengths": raw(JSON_TYPE + b"Content-Length: 17\r\nContent-Length: 18\r\n"),
    "the same length twice": raw(TYPED + b"Content-Length: 17\r\n"),
    "length and chunked": raw(CHUNKED + b"Content-Length: 17\r\n", b"0\r\n\r\n"),
    "chunked and length": raw(JSON_TYPE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "list of lengths": raw(JSON_TYPE + b"Content-Length: 17, 17\r\n"),
    "negative length": raw(JSON_TYPE + b"Content-Length: -1\r\n"),
    "signed length": raw(JSON_TYPE + b"Content-Length: +17\r\n"),
    "length with letters": raw(JSON_TYPE + b"Content-Length: 0x11\r\n"),
    "unknown coding": raw(JSON_TYPE + b"Transfer-Encoding: gzip\r\n"),
    "coding after chunked": raw(JSON_TYPE + b"Transfer-Encoding: chunked, gzip\r\n"),
    "chunked twice": raw(CHUNKED + b"Transfer-Encoding: chunked\r\n"),
    "chunked in disguise": raw(JSON_TYPE + b"Transfer-Encoding: xchunked\r\n"),
    "folded line": raw(TYPED + b"X-A: b\r\n c\r\n"),
    "blank before the colon": raw(TYPED + b"X-A : b\r\n"),
    "no colon": raw(TYPED + b"zqxSECRETzqx\r\n"),
    "no name": raw(TYPED + b": zqxSECRETzqx\r\n"),
    "control character in a value": raw(TYPED + b"X-A: zqxSECRETzqx\x01\r\n"),
    "NUL in a value": raw(TYPED + b"X-A: zqxSECRETzqx\x00\r\n"),
    "bare CR in a value": raw(TYPED + b"X-A: b\rX-B: zqxSECRETzqx\r\n"),
    "control character in a name": raw(TYPED + b"X-\x01A: zqxSECRETzqx\r\n"),
    "too many fields": raw(TYPED + b"".join(b"X-%d: zqxSECRETzqx\r\n" % n for n in range(129))),
    "a field too long": raw(TYPED + b"X-A: zqxSECRETzqx" + b"a" * 8200 + b"\r\n"),
    "a name too long": raw(TYPED + b"X" * 8200 + b": zqxSECRETzqx\r\n"),
    "a target too long": get(f"/api/v1/{'a' * 8200}"),
    "lower case method": get(PING, "get"),
    "unknown method": get(PING, "ZQXSECRETZQX"),
    "GET of an asterisk": get("*"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET /api/v1/ping HTTP/3.0\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfczqxSECRETzqx\x03\x03\r\n\r\n",
    "blank in the target": b"GET /api/v1/ping zqxSECRETzqx HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /api/v1/ping\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", TARGETS)
async def test_odd_target(name, start, connect):
    await _is_refused(TARGETS[name], start, connect)


@pytest.mark.parametrize("name", BODIES)
async def test_odd_body(name, start, connect):
    await _is_refused(BODIES[name], start, connect)


async def _is_refused(case, start, connect):
    data, status, code, words = case
    async with answering() as upstream, start(upstream.url, route=ROUTE) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["content-type"]) == (status, "application/json; charset=utf-8")
    body = reply.json()
    assert list(body) == JSON_KEYS
    assert (body["statusCode"], body["success"], body["code"]) == (status, False, code)
    assert words in body["message"]
    assert body["requestId"] == reply.fields["x-request-id"] == line["request_id"]
    assert (line["status"], line["outcome"]) == (status, "refused")
    assert line["error"] == f"{code}: {body['message']}"
    assert MARK not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


@pytest.mark.parametrize("name", METHODS)
async def test_wrong_method(name, start, connect):
    data, allow = METHODS[name]
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply(has_body=not data.startswith(b"HEAD"))
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["allow"]) == (405, allow)
    assert (line["status"], line["outcome"]) == (405, "refused")
    assert upstream.seen == []


@pytest.mark.parametrize("path", [PREDICT, f"/api/v1/chatflows-streaming/{FLOW}", PING])
@pytest.mark.parametrize("name", CREDENTIALS)
async def test_credential_where_none_can_be_valid(name, path, start, connect):
    headers = {key.replace("-", "_"): value for key, value in CREDENTIALS[name].items()}
    data = post(QUESTION, **headers) if path == PREDICT else request("GET", path, **headers)
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply()
        await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (401, "unauthenticated")
    assert reply.fields["www-authenticate"] == 'Bearer realm="flowise-gateway"'
    assert "without" in reply.json()["message"]
    assert MARK not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


@pytest.mark.parametrize("name", UNPARSABLE)
async def test_unparsable_request(name, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(UNPARSABLE[name])
        reply = await wire.reply()
        assert await wire.reader.read() == b""
        lines = await gateway.lines.until("library")
    assert (reply.status, reply.fields["content-type"]) == (400, "application/json; charset=utf-8")
    body = reply.json()
    assert (body["statusCode"], body["success"], body["code"]) == (400, False, "bad_request")
    assert "not a valid HTTP/1.1 request" in body["message"]
    assert reply.fields["server"] == "flowise-gateway"
    assert len(lines) == 1
    assert gateway.lines.of("request") == []
    told = (gateway.lines.getvalue() + reply.body.decode()).lower()
    assert MARK.lower() not in told
    assert "traceback" not in told
    assert upstream.seen == []


async def test_smuggled_request_is_not_answered(start, connect):
    """What stands behind a request that cannot be parsed is never taken for a request."""
    smuggled = raw(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n") + post(QUESTION)
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(smuggled)
        everything = await wire.reader.read()
    assert everything.count(b"\r\nServer: ") == 1
    assert upstream.seen == []


async def test_request_behind_a_broken_body_is_not_answered(start, connect):
    smuggled = raw(CHUNKED, b"xyz\r\n") + post(QUESTION)
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(smuggled)
        everything = await wire.reader.read()
    assert everything.count(b"\r\nServer: ") == 1
    assert upstream.seen == []


async def test_chunk_extensions_and_trailers_are_dropped(start, connect):
    body = b"5;a=b;c\r\n{\"que\r\nC\r\nstion\":\"hi\"}\r\n0\r\nX-Trailer: zqxSECRETzqx\r\n\r\n"
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(raw(CHUNKED, body))
        assert (await wire.reply()).status == 200
    assert upstream.seen[0].body == QUESTION
    assert MARK.encode() not in upstream.seen[0].head


@pytest.mark.parametrize("body", [b"xyz\r\n{}\r\n", b"-2\r\n{}\r\n", b"1\r\n{}\r\n", b"fffffffffffffffff\r\n", b"11\r\n" + QUESTION + b"\r\nxyz\r\n"])
async def test_framing_that_breaks_after_the_head_was_taken(body, start, connect):
    headers = CHUNKED + b"Expect: 100-continue\r\n"
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(raw(headers, b""))
        assert (await wire.head())[0] == 100
        wire.send(body + post(QUESTION))
        reply = await wire.reply()
        rest = await wire.reader.read()
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"], line["status"]) == (400, "bad_request", 400)
    assert "framing" in reply.json()["message"]
    assert rest == b""
    assert gateway.lines.of("library") == []
    assert upstream.seen == []
