"""`logs.sample`: a share of the successes is logged, chosen by request id; all else, and every metric, is complete."""

from __future__ import annotations

import uuid

import pytest

from gateway.policies.access_log import is_in_sample
from tests.harness.surface import answering, ask


async def test_successes_are_sampled_by_request_id_and_failures_and_metrics_are_complete(start, connect):
    share, ids = 0.3, [f"id-{number}" for number in range(30)]
    chosen = [name for name in ids if is_in_sample(name, share)]
    assert 0 < len(chosen) < len(ids)
    async with answering() as upstream, start(upstream.url, logs={"sample": share}) as gateway:
        for name in ids:
            assert (await ask(connect, gateway, X_Request_ID=name)).status == 200
            assert (await ask(connect, gateway, path="/api/v1/no", X_Request_ID=name)).status == 404
        lines = await gateway.lines.until("request", len(chosen) + len(ids))
        metrics = await gateway.metrics()
    successes = [line for line in lines if line["outcome"] == "ok"]
    assert [line["request_id"] for line in successes] == chosen
    assert {line["sample"] for line in successes} == {share}
    failures = [line for line in lines if line["outcome"] == "refused"]
    assert [line["request_id"] for line in failures] == ids
    assert not any("sample" in line for line in failures)
    name = 'flowise_gateway_requests_total{endpoint="prediction",outcome="ok",route="chat",status="200"}'
    assert metrics[name] == len(ids)


async def test_with_0_only_failures_are_logged_and_with_1_no_line_says_so(start, connect):
    async with answering() as upstream, start(upstream.url, logs={"sample": 0}) as gateway:
        await ask(connect, gateway)
        await ask(connect, gateway, path="/api/v1/no")
        assert (await gateway.lines.request())["status"] == 404
    async with answering() as upstream, start(upstream.url, logs={"sample": 1}) as gateway:
        await ask(connect, gateway)
        assert "sample" not in await gateway.lines.request()


def test_every_process_chooses_the_same_ids():
    assert [number for number in range(10) if is_in_sample(f"id-{number}", 0.3)] == [0, 4, 8]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("form", ["hex", "counter"])
def test_the_share_holds_for_ids_of_any_form(share, form):
    count = 20_000
    ids = (
        uuid.UUID(int=n * 2**64 + pow(7, n, 2**64)).hex if form == "hex" else f"req-{n}" for n in range(count)
    )
    found = sum(is_in_sample(name, share) for name in ids)
    assert abs(found - share * count) < 5 * (count * share * (1 - share)) ** 0.5
