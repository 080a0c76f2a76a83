"""The configuration alone determines the number of series, not the requests."""

from __future__ import annotations

import random

import pytest

from tests.harness import bounds
from tests.harness.api_keys import key_of
from tests.harness.gateway import FLOW
from tests.harness.surface import PREDICT, answering, ask

SETTINGS = {
    "metrics": {"per_caller": True},
    "auth": {"secret": "s" * 32},
    "route": {
        "auth": ["anonymous", "api_key", "session"],
        "limits": [{"name": "few", "requests": 1, "per": "1h"}],
    },
}
LETTERS = "abcXYZ019-_.~"


def word(dice):
    return "".join(dice.choice(LETTERS) for _ in range(dice.randint(1, 20)))


def random_request(dice, key):
    """A random request with a new path, name or credential."""
    kind = dice.randrange(6)
    if kind == 0:
        return {"method": "GET", "path": f"/{word(dice)}/{word(dice)}"}
    if kind == 1:
        return {"path": f"/api/v1/prediction/{word(dice)}"}
    if kind == 2:
        return {"Authorization": f"Bearer {word(dice)}"}
    if kind == 3:
        return {
            "path": "/gateway/v1/session-tokens",
            "body": b'{"caller":"%b"}' % word(dice).encode(),
            "X_API_Key": key,
        }
    if kind == 4:
        return {"body": b'{"question":"%b","chatId":"%b"}' % (word(dice).encode(), word(dice).encode())}
    return {"method": "PUT", "path": f"/api/v1/chatmessage/abort/{FLOW}/{word(dice)}"}


async def series(gateway):
    """The names of all samples."""
    return {name for name in await gateway.metrics() if name.startswith("flowise_gateway_")}


async def _play(start, connect, tmp_path, count):
    key = await key_of(tmp_path, "backend")
    dice = random.Random(4)
    async with answering() as upstream, start(upstream.url, **SETTINGS) as gateway:
        await ask(connect, gateway, path=PREDICT)
        for _ in range(count // 2):
            await ask(connect, gateway, **{"path": PREDICT, **random_request(dice, key)})
        before = await series(gateway)
        for _ in range(count // 2):
            await ask(connect, gateway, **{"path": PREDICT, **random_request(dice, key)})
        assert await series(gateway) == before
        assert len(before) < 300


async def test_random_requests_make_no_new_series(start, connect, tmp_path):
    await _play(start, connect, tmp_path, 400)


@pytest.mark.chaos
@pytest.mark.timeout(30 * bounds.TEST)
async def test_ten_thousand_random_requests_make_no_new_series(start, connect, tmp_path):
    await _play(start, connect, tmp_path, 10_000)
