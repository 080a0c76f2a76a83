"""Builders of odd requests, and requests that no parser may accept."""

from __future__ import annotations

from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT, QUESTION

HOST = b"Host: gateway\r\n"
MARK = "zqxSECRETzqx"
PING = "/api/v1/ping"
FILE = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.png"
ROUTE = {
    "max_body": "2KiB",
    "max_question": 100,
    "max_word": 20,
    "cors": {"origins": ["https://app.example.com"]},
}


def get(path, method="GET"):
    return request(method, path)


def post(body, path=PREDICT, **headers):
    return request("POST", path, body, **headers)


def json(text):
    return post(text if isinstance(text, bytes) else text.encode())


def form(text):
    return post(text.encode(), Content_Type="application/x-www-form-urlencoded")


def multipart(*parts):
    body = (
        b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    )
    return post(body, Content_Type="multipart/form-data; boundary=b")


def raw(fields, body=QUESTION):
    """A prediction with Host and these header lines only."""
    return b"POST " + PREDICT.encode() + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


JSON_TYPE = b"Content-Type: application/json\r\n"
CHUNKED = JSON_TYPE + b"Transfer-Encoding: chunked\r\n"
TYPED = JSON_TYPE + b"Content-Length: 17\r\n"


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
    "chunked and length": raw(
        JSON_TYPE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"
    ),
    "list of lengths": raw(JSON_TYPE + b"Content-Length: 17, 17\r\n"),
    "negative length": raw(JSON_TYPE + b"Content-Length: -1\r\n"),
    "signed length": raw(JSON_TYPE + b"Content-Length: +17\r\n"),
    "length with letters": raw(JSON_TYPE + b"Content-Length: 0x11\r\n"),
    "unknown coding": raw(JSON_TYPE + b"Transfer-Encoding: gzip\r\n"),
    "no coding at all": raw(JSON_TYPE + b"Transfer-Encoding: identity\r\n"),
    "coding in a field before chunked": raw(
        JSON_TYPE + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
    ),
    "nothing in a field before chunked": raw(
        JSON_TYPE + b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n"
    ),
    "nothing in a field behind chunked": raw(CHUNKED + b"Transfer-Encoding:\r\n"),
    "coding in a field behind chunked": raw(CHUNKED + b"Transfer-Encoding: gzip\r\n"),
    "chunked twice in a list": raw(JSON_TYPE + b"Transfer-Encoding: chunked, chunked\r\n"),
    "parameter of chunked": raw(JSON_TYPE + b"Transfer-Encoding: chunked;a=b\r\n"),
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
    "lower case method": get(PING, "get"),
    "unknown method": get(PING, "ZQXSECRETZQX"),
    "GET of an asterisk": get("*"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET /api/v1/ping HTTP/3.0\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfczqxSECRETzqx\x03\x03\r\n\r\n",
    "blank in the target": b"GET /api/v1/ping zqxSECRETzqx HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /api/v1/ping\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
}
