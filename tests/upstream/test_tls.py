"""A Flowise behind TLS with a private authority, through a whole gateway."""

from __future__ import annotations

import pytest

from gateway.upstream.pool import tls_context
from tests.harness.gateway import FLOW
from tests.harness.surface import ANSWER
from tests.harness.tls_upstream import CERTS, tls_flowise

PATH = f"/api/v1/prediction/{FLOW}"
ASK = {"question": "hi"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_with_a_private_authority(start, connect, host):
    main = {"tls": {"ca": str(CERTS / "ca.pem")}}
    async with (
        tls_flowise() as port,
        start(f"https://{host}:{port}", upstreams={"main": main}) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK)
        reply = await wire.reply()
    assert (reply.status, reply.body) == (200, ANSWER)


@pytest.mark.parametrize("ca", [str(CERTS / "other-ca.pem"), ""])
async def test_tls_with_an_authority_that_is_not_the_servers_is_a_502(start, connect, ca):
    async with (
        tls_flowise() as port,
        start(f"https://127.0.0.1:{port}", upstreams={"main": {"tls": {"ca": ca}}}) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK)
        reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")


async def test_a_tls_connection_is_used_again(start, connect):
    """What TLS itself sends behind the handshake is no reason to drop it."""
    answered_on = []
    main = {"tls": {"ca": str(CERTS / "ca.pem")}}
    async with (
        tls_flowise(answered_on) as port,
        start(f"https://127.0.0.1:{port}", upstreams={"main": main}) as gateway,
        connect(gateway) as wire,
    ):
        for _ in range(3):
            wire.post(PATH, ASK)
            assert (await wire.reply()).status == 200
    assert len(answered_on) == 3
    assert len(set(map(id, answered_on))) == 1


def test_a_file_that_holds_no_certificate_is_named(tmp_path):
    """A reload that finds one is refused with this reason."""
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(OSError, match=r"it holds no certificate: '.*ca\.pem'"):
        tls_context(tmp_path / "ca.pem")
