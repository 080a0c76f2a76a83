"""Hostile JSON Web Tokens and key sets: the loop goes on, the answer and the log are right, nothing stays behind."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.auth.key_set import JwksError, KeySet
from tests.harness import jwt_tokens
from tests.harness.gateway import running
from tests.harness.jwt_tokens import AUDIENCE, EVERY_ALGORITHM, ISSUER, http_answer, key_set, web_server
from tests.harness.loop_lag import MOST, loop_lag
from tests.harness.resident import resident
from tests.harness.surface import answering, ask
from tests.hostile.corpus import key_sets, tokens

pytestmark = pytest.mark.usefixtures("hurried")
LONGEST_LINE = 16 * 1024
MEGABYTE = 1024 * 1024


@asynccontextmanager
async def guarded(folder, document):
    """A gateway that trusts an issuer with this document; afterwards its loop has stood still for no moment."""

    async def publish(_, writer):
        writer.write(http_answer(document))

    async with web_server(publish) as (url, _), answering() as upstream:
        issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url, "algorithms": EVERY_ALGORITHM}
        sections = {"auth": {"jwt": [issuer]}, "route": {"auth": ["jwt"]}, "server": {"max_header": "64KiB"}}
        with loop_lag() as lag:
            async with running(folder, upstream.url, **sections) as gateway:
                yield gateway
                await gateway.idle()
                assert gateway.limited_runs() == gateway.held_body_bytes() == 0
                assert max(map(len, gateway.lines.getvalue().splitlines())) <= LONGEST_LINE
        assert lag.worst < MOST


async def answer_to(connect, gateway, token):
    reply = await ask(connect, gateway, Authorization=f"Bearer {token}")
    return reply.status, reply.body.decode()


def right():
    return jwt_tokens.token(claims=tokens.CLAIMS)


@pytest.mark.parametrize("name", key_sets.TABLE)
async def test_a_hostile_key_set_stalls_nobody(name, tmp_path, connect):
    case = key_sets.TABLE[name]
    async with guarded(tmp_path, case.make()) as gateway:
        if case.reason:
            (line,) = await gateway.lines.until("jwks_unavailable")
            assert line["reason"] == case.reason
            assert (await answer_to(connect, gateway, right()))[0] == 503
        else:
            (line,) = await gateway.lines.until("jwks_loaded")
            assert (line["count"], line["left_out"]) == (case.count, case.left_out)
            assert (await answer_to(connect, gateway, right()))[0] == (200 if case.count else 401)


@pytest.mark.parametrize("name", tokens.TABLE)
async def test_a_hostile_token_is_refused_at_once(name, tmp_path, connect):
    case = tokens.TABLE[name]
    async with guarded(tmp_path, key_set(key_sets.RIGHT)) as gateway:
        await gateway.lines.until("jwks_loaded")
        status, body = await answer_to(connect, gateway, case.make())
        assert (status, case.says in body) == (401, True), body
        assert (await answer_to(connect, gateway, right()))[0] == 200


def test_hostile_key_sets_leave_no_memory_behind():
    """The second time: the first one takes what the allocator keeps."""
    for _ in range(2):
        gc.collect()
        before = resident()
        for case in key_sets.TABLE.values():
            with suppress(JwksError):
                KeySet.read(case.make(), EVERY_ALGORITHM)
    gc.collect()
    assert resident() - before < 20 * MEGABYTE
