"""JSON bodies that are dear to read: many members, deep, long, full of escapes."""

from __future__ import annotations

from tests.harness.surface import FLOW
from tests.hostile.corpus.forms import CLOSING, FILE, MULTIPART
from tests.hostile.corpus.requests import KIB, MIB, Hostile, in_chunks, members, post, repeated

FEEDBACK = f"/api/v1/feedback/{FLOW}"
LEADS = "/api/v1/leads"
MINTING = "/gateway/v1/session-tokens"
UPLOADS = {"uploads": True}
ALL_OVERRIDES = {"override_config": {"allow": ["vars.*", "sessionId"]}}
LARGE = {"max_body": "64MiB"}


def _json(body, status=413, says="", **keys):
    return Hostile(post(body), status, says, **keys)


def _uploads(body, status, says="", **keys):
    return Hostile(post(body), status, says, UPLOADS, LARGE, **keys)


STRUCTURE = {
    "many members": _json(members(b'{"question":"hi",', 255 * KIB, b"}")),
    "many members of a small body": _json(members(b'{"question":"hi",', 16 * KIB, b"}")),
    "many members in overrideConfig": _json(members(b'{"overrideConfig":{', 255 * KIB, b"}}")),
    "many members in vars": _json(
        members(b'{"overrideConfig":{"vars":{', 255 * KIB, b"}}}"), route=ALL_OVERRIDES
    ),
    "a thousand members in vars": _json(
        members(b'{"overrideConfig":{"vars":{', 9 * KIB, b"}}}"), 200, route=ALL_OVERRIDES
    ),
    "many members in form": _json(members(b'{"form":{', 255 * KIB, b"}}")),
    "many elements in form": _json(repeated(b'{"form":{"a":[', b"0,", 255 * KIB, b"0]}}")),
    "many empty objects": _json(repeated(b'{"x":[', b"{},", 255 * KIB, b"{}]}")),
    "many nested pairs": _json(repeated(b'{"x":[', b'[{"":[]}],', 255 * KIB, b"1]}")),
    "the same name": _json(repeated(b"{", b'"a":1,', 255 * KIB, b'"b":1}')),
    "many messages in history": _json(
        repeated(b'{"history":[', b'{"a":"","b":""},', 255 * KIB, b"1]}"),
        route={"body": {"allow": ["history"]}},
    ),
    "deep": _json(repeated(b'{"x":', b"[", 255 * KIB, b"")),
    "deep and closed": _json(lambda: b'{"x":' + b"[" * 127 * KIB + b"]" * 127 * KIB + b"}"),
    "deep objects": _json(repeated(b"", b'{"":', 255 * KIB, b"")),
    "closing brackets": _json(repeated(b'{"x":1', b"]", 255 * KIB, b""), 400),
    "members without values": _json(repeated(b"{", b'"",', 255 * KIB, b"")),
    "one name": _json(repeated(b'{"', b"n", 255 * KIB, b'":1}')),
    "one number": _json(repeated(b'{"x":', b"1", 255 * KIB, b"}"), 200),
    "blanks": _json(repeated(b"{", b" ", 255 * KIB, b"}"), 200),
    "backslashes": _json(repeated(b'{"x":"', b"\\", 254 * KIB, b'"}'), 200),
    "escapes of letters": _json(repeated(b'{"question":"', b"\\u0041", 252 * KIB, b'"}')),
    "escapes of letters elsewhere": _json(repeated(b'{"x":"', b"\\u0041", 252 * KIB, b'"}'), 200),
    "escapes of backslashes": _json(repeated(b'{"x":"', b"\\u005c", 252 * KIB, b'"}'), 200),
    "half surrogate pairs": _json(repeated(b'{"x":"', b"\\ud83d", 252 * KIB, b'"}'), 200),
    "not UTF-8 at the end": _json(repeated(b'{"x":"', "é".encode(), 252 * KIB, b'\xff"}'), 400),
    "many unknown members that are dropped": _json(
        lambda: b"{" + b",".join(b'"%b%d":1' % (b"n" * 35, n) for n in range(256)) + b"}",
        200,
        route={"body": {"unknown": "drop"}},
    ),
}

LONG = {
    "8 MiB of strings": _uploads(repeated(b"", b'"",', 8 * MIB, b""), 413),
    "8 MiB of strings in an array": _uploads(repeated(b'{"uploads":[', b'"",', 8 * MIB, b'""]}'), 413),
    "8 MiB of members": _uploads(members(b"{", 8 * MIB, b"}"), 413),
    "8 MiB of uploads": _uploads(
        repeated(b'{"uploads":[', b'{"type":"file","name":"a","data":"b"},', 8 * MIB, b"1]}"), 413
    ),
    "16 MiB of one file": _uploads(
        repeated(
            b'{"uploads":[{"type":"file","name":"a","mime":"image/png","data":"', b"QUJD", 16 * MIB, b'"}]}'
        ),
        200,
    ),
    "16 MiB of words in a file": _uploads(
        repeated(b'{"uploads":[{"type":"file:full","name":"a","data":"', b"ab ", 16 * MIB, b'"}]}'), 200
    ),
    "16 MiB of one word in a file": _uploads(
        repeated(b'{"uploads":[{"type":"file:full","name":"a","data":"', b"ab", 16 * MIB, b'"}]}'),
        413,
        "uploads has a word",
    ),
    "16 MiB of letters beyond ASCII": _uploads(
        repeated(b'{"uploads":[{"type":"file:full","name":"a","data":"', "é ".encode(), 16 * MIB, b'"}]}'),
        200,
    ),
    "8 MiB of escaped letters": _uploads(repeated(b'{"x":"', b"\\u0046", 8 * MIB, b'"}'), 200),
    "8 MiB of escaped quotes": _uploads(repeated(b'{"x":"', b'\\"', 8 * MIB, b'"}'), 200),
    "8 MiB of backslashes": _uploads(repeated(b'{"x":"', b"\\\\", 8 * MIB, b'"}'), 200),
    "8 MiB of half surrogate pairs": _uploads(repeated(b'{"x":"', b"\\ud83d", 8 * MIB, b'"}'), 200),
    "8 MiB of almost a stored file": _uploads(repeated(b'{"x":"', b"FILE-STORAGE:", 8 * MIB, b'"}'), 200),
    "8 MiB of the question": _uploads(repeated(b'{"question":"', b"a ", 8 * MIB, b'"}'), 413),
    "8 MiB of the chatId": _uploads(repeated(b'{"chatId":"', b"a", 8 * MIB, b'"}'), 400, "chatId must be"),
    "8 MiB of the switch": _uploads(repeated(b'{"streaming":"', b"a", 8 * MIB, b'"}'), 200),
    "8 MiB of one name": _uploads(repeated(b'{"', b"n", 8 * MIB, b'":1}'), 413),
    "a file name of half a surrogate pair": _uploads(
        lambda: (
            b'{"uploads":[{"type":"file","name":"\\ud800","data":"data:image/png;base64,QUJD","mime":"image/png"}]}'
        ),
        200,
    ),
    "8 MiB of blanks": _uploads(repeated(b"{", b" ", 8 * MIB, b"}"), 413),
    "8 MiB of digits": _uploads(repeated(b'{"x":', b"1", 8 * MIB, b"}"), 413),
    "8 MiB of brackets": _uploads(repeated(b"", b"[", 8 * MIB, b""), 413),
    "8 MiB without a closing quote": _uploads(repeated(b'{"x":"', b"a", 8 * MIB, b""), 400, "not valid JSON"),
    "8 MiB that is not UTF-8 at its end": _uploads(
        repeated(b'{"x":"', "é".encode(), 8 * MIB, b'\xff"}'), 400, "must be UTF-8"
    ),
}

RECORDS = {
    "feedback of many members": Hostile(post(members(b"{", 63 * KIB, b"}"), FEEDBACK), 413),
    "feedback of 1 MiB": Hostile(post(members(b"{", 1023 * KIB, b"}"), FEEDBACK), 413, "65536 bytes"),
    "feedback of 34 MiB": Hostile(
        post(repeated(b"{", b'"a":1,', 34 * MIB, b'"b":1}'), FEEDBACK), 413, "65536 bytes", UPLOADS, LARGE
    ),
    "feedback of one text": Hostile(
        post(repeated(b'{"chatId":"c","messageId":"m","content":"', b"a ", 63 * KIB, b'"}'), FEEDBACK), 413
    ),
    "leads of many members": Hostile(post(members(b"{", 63 * KIB, b"}"), LEADS), 413),
    "leads of 255 KiB": Hostile(post(members(b"{", 255 * KIB, b"}"), LEADS), 413, "65536 bytes"),
    "minting with many members": Hostile(post(members(b"{", 63 * KIB, b"}"), MINTING), 401),
}

FRAMING = {
    "chunks of one byte": Hostile(lambda: in_chunks(b'{"x":"%b"}' % (b"a" * 250 * KIB), 1), 200),
    "chunks of one byte of a file": Hostile(
        lambda: in_chunks(FILE + b"a" * 250 * KIB + CLOSING, 1, MULTIPART), 200, route=UPLOADS
    ),
}

TABLE = {**FRAMING, **STRUCTURE, **LONG, **RECORDS}
