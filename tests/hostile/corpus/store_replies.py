"""What a limit store may send in place of a reply: endless, huge, deep, of another protocol, to no question."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, repeat

from tests.hostile.corpus.requests import KIB, MIB

PIECE = b"x" * 64 * KIB
ENDLESS = 512  # pieces, 32 MiB: what no bound stops would be read whole


@dataclass(frozen=True)
class HostileReply:
    """Pieces that are sent in place of the reply to a command.

    Attributes:
        pieces: builds them.
        reason: why the store is away, in the log.
        to: the name of the command, or of a script its act.
    """

    pieces: Callable[[], Iterable[bytes]]
    reason: str
    to: bytes = b"admit"


def _reply(text: bytes, reason: str = "connection", to: bytes = b"admit") -> HostileReply:
    return HostileReply(lambda: [text], reason, to)


def _endless(head: bytes, piece: bytes = PIECE, to: bytes = b"admit") -> HostileReply:
    return HostileReply(lambda: chain([head], repeat(piece, ENDLESS)), "connection", to)


TEXTS = {
    "512 MiB announced": _endless(b"$536870912\r\n"),
    "a text a byte too long": _reply(b"$65537\r\n" + b"1" * 65537 + b"\r\n"),
    "more bytes than a number has": _endless(b"$" + b"9" * 100 + b"\r\n"),
    "a length without end": _endless(b"$", b"9" * 64 * KIB),
    "a length that is negative": _reply(b"$-5\r\n1 1\r\n"),
    "no text": _reply(b"$-1\r\n", "reply"),
    "a length that is no number": _reply(b"$abc\r\n"),
    "an empty text": _reply(b"$0\r\n\r\n", "reply"),
    "numbers beyond all bounds": _reply(b"$5002\r\n1 " + b"9" * 5000 + b"\r\n", "reply"),
    "many numbers": _reply(b"$65534\r\n" + b"1 " * 32767 + b"\r\n", "reply"),
    "no numbers": _reply(b"$5\r\nhello\r\n", "reply"),
    "not UTF-8": _reply(b"$3\r\n1 \xff\r\n", "reply"),
}
LISTS = {
    "a million elements": HostileReply(
        lambda: chain([b"*1000000\r\n"], repeat(b":1\r\n" * 10_000, 100)), "connection"
    ),
    "a million elements announced": _reply(b"*1000000\r\n"),
    "deep lists": HostileReply(lambda: repeat(b"*1\r\n" * 16 * KIB, 64), "connection"),
    "a short list": _reply(b"*2\r\n:1\r\n:1\r\n", "reply"),
    "a list of the longest texts": HostileReply(
        lambda: chain([b"*16\r\n"], repeat(b"$65536\r\n" + PIECE + b"\r\n", 16)), "reply"
    ),
    "a list of texts that are too long": _endless(b"*16\r\n$1000000\r\n"),
    "a negative number of elements": _reply(b"*-7\r\n"),
    "no list": _reply(b"*-1\r\n", "reply"),
    "elements that are no number": _reply(b"*x\r\n"),
}
OTHERS = {
    "an integer beyond 64 bits": _reply(b":" + b"9" * 30 + b"\r\n", "reply"),
    "an integer of 5,000 digits": _reply(b":" + b"9" * 5000 + b"\r\n"),
    "an integer without end": _endless(b":", b"1" * 64 * KIB),
    "a status": _reply(b"+OK\r\n", "reply"),
    "a status without end": _endless(b"+"),
    "an error of 1 MiB": _reply(b"-ERR " + b"x" * MIB + b"\r\n"),
    "an error word of 60 KiB": _reply(b"-" + b"A" * 60 * KIB + b"\r\n", "A" * 60 * KIB),
    "line ends": _reply(b"\r\n" * MIB),
    "NUL bytes": _reply(b"\0" * MIB),
    "a web server": _reply(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "garbage": _endless(b"", bytes(range(256)) * 256),
    "a push of RESP3": _reply(b">2\r\n$10\r\ninvalidate\r\n*0\r\n"),
    "a map of RESP3": _reply(b"%1\r\n+a\r\n:1\r\n"),
    "a streamed text of RESP3": _reply(b"$?\r\n;4\r\n1 1 \r\n;0\r\n"),
    "a big number of RESP3": _reply(b"(" + b"9" * 1000 + b"\r\n"),
    "answers to no question": _reply(b"$3\r\n1 1\r\n" * 10_000, "reply"),
    "a goodbye": _reply(b"-ERR max number of clients reached\r\n"),
}
TABLE = {**TEXTS, **LISTS, **OTHERS}
# The reply to these has no end: the first bytes are there, and nothing follows.
UNFINISHED = {
    "nothing": b"",
    "a text": b"$60000\r\n" + b"1 " * 20_000,
    "a text without its line end": b"$3\r\n1 1",
    "a list": b"*16\r\n" + b"$1\r\n1\r\n" * 15,
    "a line": b"+O",
    "half a line end": b"+OK\r",
}
AT_LOGIN = {
    "512 MiB announced": _endless(b"$536870912\r\n", to=b"CLIENT"),
    "garbage": _endless(b"", bytes(range(256)) * 256, to=b"CLIENT"),
    "a line without end": _endless(b"+", to=b"CLIENT"),
    "a list for a script's digest": _reply(b"*1000000\r\n", to=b"SCRIPT"),
    "another answer than PONG": _reply(b"+PANG\r\n", "reply", b"PING"),
    "lists in the reply to a ping": HostileReply(
        lambda: repeat(b"*1\r\n" * 16 * KIB, 64), "connection", b"PING"
    ),
}
