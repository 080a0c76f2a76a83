"""The syntax of multipart/form-data (RFC 7578): reads the head of a client's part, writes parts for Flowise (pure)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from gateway.errors import BadRequest

_PARAMETER = re.compile(
    r"\s*;\s*(?P<name>[A-Za-z0-9!#$&+.^_`|~-]+\*?)\s*=\s*"
    r"""(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<token>[^\s";]+))"""
)
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_UTF_8_VALUE = re.compile(r"(?i:utf-8)'[^']*'((?:[^%]|%[0-9A-Fa-f]{2})*+)")
_MEDIA_TYPE = re.compile(r"[\w!#$&+.^`|~-]+/[\w!#$&+.^`|~-]+(?:\s*;[ -~]*)?", re.ASCII)
_DEFAULT_TYPE = "application/octet-stream"


def read_disposition(header: str | None) -> tuple[str, str | None]:
    """Returns the field's name and, for a file, its file name from a Content-Disposition header.

    A backslash quotes only a quote or another backslash; `filename*` (RFC 8187, in UTF-8) wins. Raises BadRequest if
    the header is missing, malformed or not UTF-8 (aiohttp hands such bytes on as surrogates), is not `form-data`, or
    repeats a parameter.
    """
    kind, _, _ = (header or "").partition(";")
    if header is None or kind.strip().lower() != "form-data":
        raise BadRequest('Every part of the form needs the header Content-Disposition: form-data; name="…".')
    if any("\ud800" <= letter <= "\udfff" for letter in header):
        raise BadRequest("A part of the form has a Content-Disposition header that is not UTF-8.")
    parameters = _parameters(header[len(kind) :])
    if "name" not in parameters:
        raise BadRequest("A part of the form has no name in its Content-Disposition header.")
    extended = parameters.get("filename*")
    return parameters["name"], parameters.get("filename") if extended is None else _utf8_value(extended)


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    position = 0
    while found := _PARAMETER.match(text, position):
        name = found["name"].lower()
        if name in parameters:
            raise BadRequest("A part of the form has a Content-Disposition parameter twice.")
        quoted = found["quoted"]
        parameters[name] = found["token"] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        position = found.end()
    if text[position:].strip(" \t;"):
        raise BadRequest("A part of the form has a malformed Content-Disposition header.")
    return parameters


def _utf8_value(extended: str) -> str:
    found = _UTF_8_VALUE.fullmatch(extended)
    try:
        if found:
            return unquote_to_bytes(found[1]).decode()
    except UnicodeDecodeError:
        pass
    raise BadRequest("A part of the form has a filename* that is not UTF-8''percent-encoded.")


def content_type(boundary: str) -> str:
    return f"multipart/form-data; boundary={boundary}"


def field_part(boundary: str, name: str, text: str) -> bytes:
    """A whole part that carries text, without Content-Type: with one Flowise may take it for a file."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
    return f"{head}{text}\r\n".encode()


def file_head(boundary: str, name: str, file_name: str, media_type: str | None) -> bytes:
    """The lines before a file's bytes; CRLF must follow the bytes. The name is UTF-8, as browsers send it."""
    kind = media_type if media_type and _MEDIA_TYPE.fullmatch(media_type) else _DEFAULT_TYPE
    disposition = f'form-data; name="{_quoted(name)}"; filename="{_quoted(file_name)}"'
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()


def _quoted(text: str) -> str:
    """Escapes as browsers do (WHATWG HTML, multipart/form-data encoding); Flowise keeps `%22`."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def closing(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()
