"""One key of a wrong type in the store, as clients, log and metrics show it."""

from __future__ import annotations

from tests.harness.fleet import SECRET
from tests.harness.gateway import FLOW
from tests.harness.surface import answer_with_store, answering, ask

RULE = {"name": "all", "requests": 5, "per": "1h", "by": "route"}


async def test_a_key_of_a_wrong_type_is_named_in_the_log_and_costs_nobody_a_request(valkey, start, connect):
    sections = {"limits": {"store": valkey.url, "when_store_fails": "closed"}, "auth": {"secret": SECRET}}
    async with (
        answering() as upstream,
        start(upstream.url, route={"limits": [RULE]}, **sections) as gateway,
    ):
        assert (await answer_with_store(connect, gateway)).status == 200
        with valkey.client() as client:
            (key,) = client.keys("fgw:{route:chat}*")
            client.delete(key)
            client.rpush(key, "a list")
        assert [(await ask(connect, gateway)).status for _ in range(6)] == [200] * 5 + [429]
        (line,) = gateway.lines.of("limit_key_replaced")
        assert (line["level"], line["key"], line["type"]) == ("warning", key.decode(), "list")
        assert FLOW not in line["key"]
        scrape = await gateway.metrics()
    assert gateway.lines.of("limit_store_down") == []
    assert not [name for name in scrape if "limit_store_errors" in name]


async def test_a_key_that_cannot_be_deleted_is_named_once_and_its_requests_follow_the_mode(
    own_valkey, start, connect
):
    with own_valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-unlink")
    sections = {"limits": {"store": own_valkey.url, "when_store_fails": "closed"}, "auth": {"secret": SECRET}}
    async with (
        answering() as upstream,
        start(upstream.url, route={"limits": [RULE]}, **sections) as gateway,
    ):
        assert (await answer_with_store(connect, gateway)).status == 200
        with own_valkey.client() as client:
            (key,) = client.keys("fgw:{route:chat}*")
            client.delete(key)
            client.rpush(key, "a list")
            for _ in range(6):
                reply = await ask(connect, gateway)
                assert (reply.status, reply.json()["code"]) == (503, "store_unavailable")
            (line,) = gateway.lines.of("limit_key_broken")
            assert (line["level"], line["keys"]) == ("error", [key.decode()])
            client.delete(key)
        assert (await answer_with_store(connect, gateway)).status == 200
        scrape = await gateway.metrics()
    assert scrape['flowise_gateway_limit_store_errors_total{kind="key"}'] == 6
    assert gateway.lines.of("limit_store_down") == []
