"""Flowise's answers to the gateway's own questions that are made to cost much."""

from __future__ import annotations

import json

from tests.hostile.corpus.replies import KILOBYTE, MEGABYTE


def filled(unit: bytes, size: int) -> bytes:
    return ((unit + b",") * (size // (len(unit) + 1)))[:-1]


def flow_data(flow: bytes) -> bytes:
    return b'{"a":1,"flowData":%b}' % json.dumps(flow.decode()).encode()


MEMBERS = b"{" + b",".join(b'"%d":%d' % (number, number) for number in range(250 * KILOBYTE // 12)) + b"}"
REFUSED = {
    "members": MEMBERS,
    "members of 15 MiB": b"{" + filled(b'"a":0', 15 * MEGABYTE) + b"}",
    "an array": b"[" + filled(b"[]", 3 * MEGABYTE) + b"]",
    "an array of 15 MiB": b"[" + filled(b"[]", 15 * MEGABYTE) + b"]",
    "a text of 15 MiB": b'"' + b"x" * 15 * MEGABYTE + b'"',
    "blanks": b"{" + b" " * 3 * MEGABYTE,
    "nesting": b'{"a":' + b"[" * 3 * MEGABYTE,
    "surrogates in the end not closed": b'{"a":"' + b"\\ud800" * (MEGABYTE // 2),
}
TRIMMED = {
    "nodes": flow_data(b'{"nodes":[' + filled(b"{}", 3 * MEGABYTE) + b"]}"),
    "numbers as nodes": flow_data(b'{"nodes":[' + filled(b"0", 3 * MEGABYTE) + b"]}"),
    "inputs": flow_data(
        b'{"nodes":[{"data":{"name":"startAgentflow","inputs":{' + filled(b'"a":0', 2 * MEGABYTE) + b"}}}]}"
    ),
    "a flow of quotes": flow_data(b'"' * MEGABYTE),
    "surrogates": b'{"a":1,"flowData":"' + b"\\ud800" * (MEGABYTE // 2) + b'"}',
    "no text": b'{"a":1,"flowData":[' + filled(b"[]", 3 * MEGABYTE) + b"]}",
}
STREAMABILITY = {
    "15 MiB": b"[" + filled(b"[]", 15 * MEGABYTE) + b"]",
    "an array": b"[" + filled(b"[]", 63 * KILOBYTE) + b"]",
    "another member": b'{"a":[' + filled(b"[]", 63 * KILOBYTE) + b'],"isStreaming":1}',
    "no boolean": b'{"isStreaming":[' + filled(b"0", 63 * KILOBYTE) + b"]}",
}
