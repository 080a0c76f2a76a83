"""The OpenAPI document against a real Flowise: every operation is called, requests and answers are as it says."""

from __future__ import annotations

import aiohttp
import pytest

from tests.harness import bounds
from tests.harness.documented_calls import Caller, every_operation
from tests.harness.openapi import operations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]
ORIGIN = "https://app.example.com"


async def test_every_operation_answers_as_documented(guard):
    async with guard(ORIGIN, speech=True, upsert=True) as gateway, aiohttp.ClientSession() as session:
        called = Caller(gateway.url, gateway.key, session)
        flows = {"agent": "agentflow", "files": "assistant", "spoken": "pictures", "library": "library"}
        await every_operation(called, chat="chain", **flows, origin=ORIGIN)
        wrong = {"Authorization": "Bearer fgw_wrong"}
        assert (await called("POST", "/api/v1/prediction/chain", {"question": "hi"}, **wrong))[0] == 401
        assert (await called("POST", "/api/v1/prediction/nothing", {"question": "hi"}))[0] == 404
        assert called.operations == operations()
