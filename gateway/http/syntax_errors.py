"""What is wrong with a request that cannot be parsed, and what would be right (pure).

The parser's own words may quote the request, and with it a key. So only sentences of this file reach a client or a log.
"""

from __future__ import annotations

UNPARSABLE = "This is not a valid HTTP/1.1 request"
OTHER_CODING = "Transfer-Encoding is not served. Send `chunked`, once, or Content-Length."

_BOTH_LENGTHS = "it has both Content-Length and Transfer-Encoding. Send one of them."
_LENGTH = "its Content-Length is not the number of bytes. Send one, of digits only."
_LINE_BREAK = "a header field has a line break in its value. Remove it, and end each line with CR LF."
_CHUNK = "a chunk of the body does not begin with its size. Send that in hexadecimal digits."
_LINE_END = "a line does not end with CR LF. End each line of the head with both."

# by words of llhttp and aiohttp, the first that occur
_SENTENCES = (
    ("Missing 'Host'", "it has no Host field. Send one."),
    ("Duplicate 'Host'", "it has more than one Host field. Send one."),
    ("Duplicate 'Content-Type'", "it has more than one Content-Type. Send one."),
    ("Duplicate Content-Length", "it has more than one Content-Length. Send one."),
    ("HTTPS traffic", "this is TLS, and the port takes plain HTTP. Write http:// in place of https://."),
    ("PRI", "this is HTTP/2. Let the client speak HTTP/1.1."),
    ("Invalid method", "it does not begin with a method. Send one like POST, in capitals."),
    (
        "Expected HTTP/",
        "its first line is not method, target and version. Percent-encode spaces in the target.",
    ),
    ("Invalid HTTP version", "its version is unknown. End its first line with HTTP/1.1."),
    ("Invalid char in url", "its target has a character that is not allowed. Percent-encode it."),
    ("Transfer-Encoding can't be present", _BOTH_LENGTHS),
    ("Content-Length can't be present", _BOTH_LENGTHS),
    ("Content-Length", _LENGTH),
    ("`Transfer-Encoding`", f"its {OTHER_CODING}"),
    ("Duplicate 'Transfer-Encoding'", f"its {OTHER_CODING}"),
    ("chunk size", _CHUNK),
    ("Chunk size", _CHUNK),
    ("chunk data", "a chunk of the body is longer than it says. Send its length in bytes."),
    ("Missing expected CR after header value", _LINE_BREAK),
    ("Missing expected LF after header value", _LINE_BREAK),
    (
        "Invalid header token",
        "a header field does not begin with a name of allowed characters and a colon. Write `Name: value`.",
    ),
    ("Invalid header value", "a header field has a control character in its value. Remove it."),
    ("whitespace after header value", "a header field goes on in a second line. Write it in one."),
    ("Expected CRLF", _LINE_END),
    ("Expected LF", _LINE_END),
)


def sentence_for(said: str) -> str:
    """The sentence for what the parser has said, which is quoted nowhere; without a reason for words not known here."""
    words = said.partition("\n\n")[0]  # what follows is quoted from the request
    reason = next((sentence for known, sentence in _SENTENCES if known in words), "")
    return f"{UNPARSABLE}: {reason}" if reason else f"{UNPARSABLE}."
