"""Flowise, the log and the limits get the client's own address, not one that it claims."""

from __future__ import annotations

import pytest

from tests.harness.surface import answering, ask

PROXY = {"server": {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"]}}
CASES = [
    ({}, {"X_Forwarded_For": "1.2.3.4"}, "127.0.0.1"),
    ({}, {"Forwarded": "for=1.2.3.4"}, "127.0.0.1"),
    (PROXY, {}, "127.0.0.1"),
    (PROXY, {"X_Forwarded_For": "1.2.3.4"}, "1.2.3.4"),
    (PROXY, {"X_Forwarded_For": "6.6.6.6, 1.2.3.4, 10.0.0.9"}, "1.2.3.4"),
    (PROXY, {"X_Forwarded_For": "6.6.6.6\r\nX-Forwarded-For: 1.2.3.4"}, "1.2.3.4"),
    (PROXY, {"X_Forwarded_For": "garbage"}, "127.0.0.1"),
    (PROXY, {"X_Forwarded_For": "2001:db9::1%evil text"}, "127.0.0.1"),
    (PROXY, {"X_Forwarded_For": "1.2.3.4, garbage, 10.0.0.9"}, "10.0.0.9"),
    (PROXY, {"X_Forwarded_For": "2001:db9::1"}, "2001:db9::1"),
    (PROXY, {"X_Forwarded_For": "[2001:db9::1]:443"}, "2001:db9::1"),
    (PROXY, {"X_Forwarded_For": "2001:db9::1, 2001:db8::2"}, "2001:db9::1"),
    (PROXY, {"X_Forwarded_For": "::ffff:1.2.3.4"}, "1.2.3.4"),
    (PROXY, {"X_Forwarded_For": "1.2.3.4:5678"}, "1.2.3.4"),
    (PROXY, {"Forwarded": 'for=6.6.6.6, for="[2001:db9::1]:99";proto=https'}, "2001:db9::1"),
    (PROXY, {"Forwarded": "proto=https;For=1.2.3.4"}, "1.2.3.4"),
    (PROXY, {"Forwarded": "for=_hidden"}, "127.0.0.1"),
    (PROXY, {"X_Forwarded_For": "1.2.3.4", "Forwarded": "for=6.6.6.6"}, "1.2.3.4"),
]


@pytest.mark.parametrize(("settings", "headers", "client"), CASES)
async def test_client_address(settings, headers, client, start, connect):
    async with answering() as upstream, start(upstream.url, **settings) as gateway:
        assert (await ask(connect, gateway, **headers)).status == 200
        line = await gateway.lines.request()
    (seen,) = upstream.seen
    assert line["client"] == seen.fields["x-forwarded-for"] == client
    assert seen.head.lower().count(b"x-forwarded-for:") == 1
    assert "forwarded" not in seen.fields
