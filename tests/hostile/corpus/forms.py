"""Forms that are dear to read: urlencoded and multipart."""

from __future__ import annotations

from tests.hostile.corpus.requests import KIB, MIB, Hostile, members, post, repeated

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
UPLOADS = {"uploads": True}
LARGE = {"max_body": "64MiB"}
FIELD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
CLOSING = b"\r\n--b--\r\n"


def _form(body, status=413, says="", **keys):
    return Hostile(post(body, kind=URLENCODED), status, says, **keys)


def _multipart(body, status=400, says="", **keys):
    return Hostile(post(body, kind=MULTIPART), status, says, **keys)


def _fields(count, head=b""):
    one = b'--b\r\n%bContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n'
    return lambda: b"".join(one % (head, n) for n in range(count)) + b"--b--\r\n"


FORMS = {
    "120,000 fields": _form(lambda: b"&".join(b"%d=" % n for n in range(120_000))),
    "120,000 empty fields": _form(repeated(b"", b"&", 120 * KIB, b"")),
    "one field of escapes": _form(repeated(b"question=", b"%41", 1000 * KIB, b"")),
    "one field of plus signs": _form(repeated(b"question=", b"+", 1000 * KIB, b"")),
    "one name": _form(repeated(b"", b"a", 255 * KIB, b"=1")),
    "many fields of one name": _form(repeated(b"", b"a=1&", 800, b""), 400, "twice"),
    "malformed escapes": _form(repeated(b"question=", b"%", 255 * KIB, b""), 400, "hexadecimal"),
    "8 MiB of a form": _form(repeated(b"question=", b"%41", 8 * MIB, b""), route=UPLOADS, server=LARGE),
}

MULTIPARTS = {
    "blank lines before the boundary": _multipart(
        repeated(b"", b"\r\n", 1000 * KIB, FIELD % (b"question", b"hi") + b"--b--\r\n")
    ),
    "text before the boundary": _multipart(
        repeated(b"", b"x\n", 1000 * KIB, FIELD % (b"question", b"hi") + b"--b--\r\n")
    ),
    "one long line before the boundary": _multipart(repeated(b"", b"x", 1000 * KIB, b"")),
    "nothing but blank lines": _multipart(repeated(b"", b"\n", 1000 * KIB, b"")),
    "blank lines after the end": _multipart(
        repeated(FIELD % (b"question", b"hi") + b"--b--\r\n", b"\r\n", 512 * KIB, b""), 200
    ),
    "vars of many members": _multipart(
        members(
            b'--b\r\nContent-Disposition: form-data; name="vars"\r\n\r\n{',
            250 * KIB,
            b"}\r\n" + FILE + b"x" + CLOSING,
        ),
        413,
        route=UPLOADS | {"override_config": {"allow": ["vars.*"]}},
    ),
    "100 fields": _multipart(_fields(100), 200),
    "101 fields": _multipart(_fields(101), 413),
    "1000 fields": _multipart(_fields(1000), 413),
    "100 fields with many header fields": _multipart(_fields(100, b"X: y\r\n" * 7), 200),
    "100 fields with too many header fields": _multipart(_fields(100, b"X: y\r\n" * 100)),
    "long header fields": _multipart(_fields(100, b"X: %b\r\n" % (b"y" * 8000)), 200),
    "blank lines in the place of a head": _multipart(repeated(b"--b", b"\r\n", 512 * KIB, b"")),
    "one field of 254 KiB": _multipart(lambda: FIELD % (b"question", b"a " * 127 * KIB) + b"--b--\r\n", 413),
    "fields of 2 MiB": _multipart(
        lambda: b"".join(FIELD % (b"f%d" % n, b"a" * 250 * KIB) for n in range(8)) + b"--b--\r\n",
        413,
        "have more than",
        server=LARGE,
        route=UPLOADS,
    ),
    "a file of almost boundaries": _multipart(
        repeated(FILE, b"\r\n--", 8 * MIB, CLOSING), 200, route=UPLOADS, server=LARGE
    ),
    "a file of line ends": _multipart(
        repeated(FILE, b"\r\n", 8 * MIB, CLOSING), 200, route=UPLOADS, server=LARGE
    ),
    "a name that is not UTF-8": _multipart(lambda: FIELD % (b"\xff", b"x") + b"--b--\r\n", says="not UTF-8"),
    "a file name that is not UTF-8": _multipart(
        lambda: FILE.replace(b'"a"', b'"\xff"') + b"x" + CLOSING, says="not UTF-8", route=UPLOADS
    ),
    "100 files": _multipart(lambda: (FILE + b"x\r\n") * 100 + b"--b--\r\n", 200, route=UPLOADS, server=LARGE),
    "a parameter of many quotes": _multipart(
        lambda: b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\nx\r\n--b--\r\n' % (b'\\"' * 4000),
        413,
    ),
    "many parameters": _multipart(
        lambda: b"--b\r\nContent-Disposition: form-data%b\r\n\r\nx\r\n--b--\r\n" % (b"; a=b" * 1300)
    ),
}

TABLE = {**FORMS, **MULTIPARTS}
