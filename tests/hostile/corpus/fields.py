"""Request heads that are dear to look at."""

from __future__ import annotations

from tests.harness.surface import FLOW
from tests.hostile.corpus.requests import Hostile, get

COMMAS = b"," * 8100
MANY = 7  # such fields are just within the bound of a head
NOTHING, PING = "/nothing", "/api/v1/ping"
CONFIG = f"/api/v1/public-chatbotConfig/{FLOW}"
TRUSTED = {"trusted_proxies": ["127.0.0.0/8"]}
CORS = {"cors": {"origins": ["https://app.example.com"]}}

TABLE = {
    "Accept of commas": Hostile(get(NOTHING, *[b"Accept: " + COMMAS] * MANY), 404),
    "Accept of commas in a head that is too large": Hostile(get(NOTHING, *[b"Accept: " + COMMAS] * 120), 431),
    "Accept of commas in an endless head": Hostile(
        lambda: b"GET / HTTP/1.1\r\n" + b"Accept: " + b"," * 1_000_000, 431
    ),
    "many short fields": Hostile(get(PING, *[b"X: y"] * 127), 200),
    "too many short fields": Hostile(get(PING, *[b"X: y"] * 10_000), 431),
    "Accept of parameters": Hostile(get(NOTHING, *[b"Accept: " + b"a;q=0" * 1600] * MANY), 404),
    "Accept of a refused prediction": Hostile(
        get(f"/api/v1/prediction/{FLOW}", *[b"Accept: " + COMMAS] * MANY), 405
    ),
    "Forwarded of commas": Hostile(get(PING, *[b"Forwarded: " + COMMAS] * MANY), 200),
    "Forwarded of commas behind a proxy": Hostile(
        get(PING, *[b"Forwarded: " + COMMAS] * MANY), 200, server=TRUSTED
    ),
    "Forwarded of one long element": Hostile(
        get(PING, *[b"Forwarded: for=" + b";" * 8000] * MANY), 200, server=TRUSTED
    ),
    "X-Forwarded-For of commas": Hostile(get(PING, *[b"X-Forwarded-For: " + COMMAS] * MANY), 200),
    "X-Forwarded-For of trusted proxies": Hostile(
        get(PING, *[b"X-Forwarded-For: " + b"127.0.0.1," * 800] * MANY), 200, server=TRUSTED
    ),
    "Content-Encoding of commas": Hostile(
        lambda: get(f"/api/v1/prediction/{FLOW}", *[b"Content-Encoding: " + COMMAS] * MANY)().replace(
            b"GET", b"POST", 1
        ),
        400,
    ),
    "long X-Request-ID": Hostile(get(PING, *[b"X-Request-ID: " + b"a" * 8000] * MANY), 200),
    "long traceparent": Hostile(get(PING, *[b"traceparent: " + b"0" * 8000] * MANY), 200),
    "long Authorization": Hostile(get(PING, b"Authorization: Bearer fgw_" + b"a" * 8000), 401),
    "many credentials": Hostile(get(PING, *[b"Authorization: Bearer fgw_a"] * 120), 400),
    "many Origins": Hostile(get(CONFIG, *[b"Origin: " + b"a" * 8000] * MANY), 403, route=CORS),
    "a preflight for many names": Hostile(
        lambda: get(
            CONFIG,
            b"Origin: https://app.example.com",
            b"Access-Control-Request-Headers: " + b"a , " * 2000 + b"\xe9",
        )().replace(b"GET", b"OPTIONS", 1),
        204,
        route=CORS,
    ),
    "blanks in a preflight": Hostile(
        lambda: get(
            CONFIG,
            b"Origin: https://app.example.com",
            b"Access-Control-Request-Headers: a" + b" " * 8000 + b"\xe9",
        )().replace(b"GET", b"OPTIONS", 1),
        204,
        route=CORS,
    ),
    "many fields that pass": Hostile(get(CONFIG, *[b"Range: " + b"a" * 8000] * MANY), 200),
    "many segments": Hostile(get("/a" * 4000), 404),
    "many escapes in a segment": Hostile(get("/api/v1/" + "%41" * 2700), 404),
    "many parameters": Hostile(get("/api/v1/get-upload-file?" + "a=b&" * 2000), 400),
    "many equal signs": Hostile(get("/api/v1/get-upload-file?chatId" + "=" * 8000), 400),
    "slashes": Hostile(get("/" * 8000), 400),
    "a base path of slashes": Hostile(get("/t/" + "/" * 8000), 400),
}
