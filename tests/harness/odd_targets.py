"""Targets and methods that are refused."""

from __future__ import annotations

from tests.harness.gateway import FLOW
from tests.harness.odd_requests import FILE, MARK, PING, get, post
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT, QUESTION

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
    "a path that looks like a host": (
        get("//evil.example/api/v1/ping"),
        400,
        "bad_request",
        "empty segments",
    ),
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
    "upper case flow": (
        post(QUESTION, f"/api/v1/prediction/{FLOW.upper()}"),
        404,
        "unknown_route",
        "chatflow",
    ),
    "upper case name": (post(QUESTION, "/api/v1/prediction/CHAT"), 404, "unknown_route", "chatflow"),
    "two slashes at the end": (post(QUESTION, f"{PREDICT}//"), 400, "bad_request", "empty segments"),
    "two slashes behind ping": (get(f"{PING}//"), 400, "bad_request", "empty segments"),
    "no flow": (post(QUESTION, "/api/v1/prediction/"), 404, "unknown_route", "not served"),
    "no flow at all": (post(QUESTION, "/api/v1/prediction"), 404, "unknown_route", "not served"),
    "unknown flow": (post(QUESTION, "/api/v1/prediction/other"), 404, "unknown_route", "chatflow id"),
    "unknown flow of a GET": (get("/api/v1/chatflows-streaming/other"), 404, "unknown_route", "chatflow id"),
    "root": (get("/"), 404, "unknown_route", "not served"),
    "Flowise's admin surface": (get("/api/v1/chatflows"), 404, "unknown_route", "not served"),
    "Flowise's version": (get("/api/v1/version"), 404, "unknown_route", "not served"),
    "the voices of speech": (get("/api/v1/text-to-speech/voices"), 404, "unknown_route", "not served"),
    "a segment too many": (post(QUESTION, f"{PREDICT}/x"), 404, "unknown_route", "not served"),
    "query on a prediction": (post(QUESTION, f"{PREDICT}?a=1"), 400, "bad_request", "no query"),
    "key in the query": (post(QUESTION, f"{PREDICT}?apiKey={MARK}"), 400, "bad_request", "no query"),
    "key in a file's query": (get(f"{FILE}&api_key={MARK}"), 400, "bad_request", "not one of"),
    "query on ping": (get(f"{PING}?x"), 400, "bad_request", "no query"),
    "file without a name": (get(FILE.rpartition("&")[0]), 400, "bad_request", "fileName is missing"),
    "file name twice": (get(f"{FILE}&fileName=b"), 400, "bad_request", "once"),
    "file name with dots": (get(FILE.replace("a.png", "..%2fa")), 400, "bad_request", "bare file name"),
    "file of a bad chatId": (get(FILE.replace("chatId=c", "chatId=a/b")), 400, "bad_request", "chatId"),
    "file of a chatId with dots": (
        get(FILE.replace("chatId=c", "chatId=a..b")),
        400,
        "bad_request",
        "chatId",
    ),
    "bad chatId in a path": (
        get(f"/api/v1/chatmessage/abort/{FLOW}/a%20b", "PUT"),
        400,
        "bad_request",
        "chatId",
    ),
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
