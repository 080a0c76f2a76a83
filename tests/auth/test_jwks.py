"""When the keys of an issuer are fetched, and which are kept."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.auth.key_set import JwksError, KeySet
from gateway.errors import AuthUnavailable, Unauthenticated
from tests.harness.jwt_tokens import ISSUER, NOW, Published, Verifier, jwk, key_set, rsa_key, settings, token

UNAVAILABLE = r"^The keys of the token's issuer are not available at the moment: try again later\.$"
UNKNOWN = r"^The token is signed with a key \(kid\) that its issuer does not publish\.$"
WITHDRAWN = r"^The token's issuer has withdrawn the key that signed it\.$"
DOWN = JwksError("no response (connection refused)")

FIRST, SECOND = jwk(rsa_key(), kid="k1"), jwk(rsa_key("second"), kid="k2")


def by_first():
    return token()


def by_second():
    return token(key=rsa_key("second"), header={"kid": "k2"})


async def unavailable(verifier, text, retry_after):
    with pytest.raises(AuthUnavailable, match=UNAVAILABLE) as refusal:
        await verifier.verify(text)
    assert refusal.value.headers == {"Retry-After": str(retry_after)}


async def refused(verifier, text, sentence):
    with pytest.raises(Unauthenticated, match=sentence):
        await verifier.verify(text)


async def let_run():
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_timer_fetches_keys_so_that_tokens_do_not_wait():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    await verifier.tick()
    assert (await verifier.verify(by_first())).subject == "ann"
    assert issuer.fetched == [f"{ISSUER}/jwks.json"]
    assert verifier.lines == [
        {"event": "jwks_loaded", "level": "info", "issuer": ISSUER, "count": 1, "left_out": 0}
    ]


async def test_the_first_token_fetches_them_if_it_comes_first():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    assert (await verifier.verify(by_first())).subject == "ann"
    assert len(issuer.fetched) == 1


async def test_they_are_refreshed_every_ten_minutes():
    issuer = Published(FIRST, SECOND)
    verifier = Verifier(issuer)
    await verifier.tick()
    for seconds, fetched in ((0.25, 1), (599.5, 1), (0.25, 2), (599.75, 2), (0.25, 3)):
        verifier.clock.now += seconds
        await verifier.tick()
        assert len(issuer.fetched) == fetched


async def test_a_refresh_that_fails_is_repeated_every_30_seconds():
    """Else a withdrawn key would be accepted for ten minutes more with each failure."""
    issuer = Published(FIRST, SECOND)
    verifier = Verifier(issuer)
    await verifier.tick()
    issuer.document = DOWN
    for seconds, fetched in ((600, 2), (29.75, 2), (0.25, 3)):
        verifier.clock.now += seconds
        await verifier.tick()
        assert len(issuer.fetched) == fetched
    issuer.document = key_set(FIRST)
    verifier.clock.now += 30
    await verifier.tick()
    await refused(verifier, by_second(), UNKNOWN)
    for seconds, fetched in ((599.75, 5), (0.25, 6)):
        verifier.clock.now += seconds
        await verifier.tick()
        assert len(issuer.fetched) == fetched


async def test_a_withdrawn_key_is_refused_after_the_next_refresh():
    issuer = Published(FIRST, SECOND)
    verifier = Verifier(issuer)
    await verifier.tick()
    identity = await verifier.verify(by_second())
    verifier.tokens.check(identity, NOW)
    issuer.document = key_set(FIRST)
    verifier.clock.now += 600
    await verifier.tick()
    await refused(verifier, by_second(), UNKNOWN)
    with pytest.raises(Unauthenticated, match=WITHDRAWN):
        verifier.tokens.check(identity, NOW)


async def test_an_issuer_that_publishes_no_key_at_all_has_withdrawn_them():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    await verifier.tick()
    issuer.document = key_set()
    verifier.clock.now += 600
    await verifier.tick()
    await refused(verifier, by_first(), UNKNOWN)
    assert {
        "event": "jwks_loaded",
        "level": "warning",
        "issuer": ISSUER,
        "count": 0,
        "left_out": 0,
    } in verifier.lines


async def test_an_unknown_key_triggers_a_fetch_at_most_every_30_seconds():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    await verifier.tick()
    issuer.document = key_set(FIRST, SECOND)
    assert (await verifier.verify(by_second())).subject == "ann"
    assert len(issuer.fetched) == 2
    unknown = token(header={"kid": "k9"})
    for seconds, fetched in ((0, 2), (29.9, 2), (0.1, 3), (0, 3), (29.9, 3), (0.1, 4)):
        verifier.clock.now += seconds
        await refused(verifier, unknown, UNKNOWN)
        assert len(issuer.fetched) == fetched


async def test_the_30_seconds_also_hold_after_failures():
    issuer = Published()
    issuer.document = DOWN
    verifier = Verifier(issuer)
    for seconds, fetched, retry_after in ((0, 1, 30), (29.9, 1, 1), (0.1, 2, 30), (1, 2, 29)):
        verifier.clock.now += seconds
        await unavailable(verifier, by_first(), retry_after)
        assert len(issuer.fetched) == fetched
    issuer.document = key_set(FIRST)
    verifier.clock.now += 30
    assert await verifier.verify(by_first())


async def test_waiting_tokens_share_one_fetch():
    issuer = Published(FIRST)
    issuer.may_answer.clear()
    verifier = Verifier(issuer)
    waiting = [asyncio.create_task(verifier.verify(by_first())) for _ in range(50)]
    verifier.tokens.tick(verifier.clock.now)
    await let_run()
    assert len(issuer.fetched) == 1
    issuer.may_answer.set()
    assert {identity.subject for identity in await asyncio.gather(*waiting)} == {"ann"}
    assert len(issuer.fetched) == 1
    assert len(verifier.lines) == 1


async def test_a_cancelled_waiter_does_not_cancel_the_fetch():
    issuer = Published(FIRST)
    issuer.may_answer.clear()
    verifier = Verifier(issuer)
    leaving, staying = (asyncio.create_task(verifier.verify(by_first())) for _ in range(2))
    await let_run()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    issuer.may_answer.set()
    assert (await staying).subject == "ann"
    assert len(issuer.fetched) == 1


async def test_a_token_with_a_known_key_does_not_wait_for_a_fetch():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    await verifier.tick()
    issuer.may_answer.clear()
    waiting = asyncio.create_task(verifier.verify(by_second()))
    await let_run()
    assert len(issuer.fetched) == 2
    assert (await verifier.verify(by_first())).subject == "ann"
    issuer.may_answer.set()
    with pytest.raises(Unauthenticated, match=UNKNOWN):
        await waiting


async def test_an_unknown_key_waits_for_a_running_refresh():
    issuer = Published(FIRST)
    issuer.may_answer.clear()
    verifier = Verifier(issuer)
    verifier.tokens.tick(verifier.clock.now)
    await let_run()
    waiting = asyncio.create_task(verifier.verify(by_first()))
    await let_run()
    issuer.may_answer.set()
    assert (await waiting).subject == "ann"
    assert len(issuer.fetched) == 1


async def test_joining_a_refresh_does_not_use_up_the_30_seconds():
    issuer = Published(FIRST)
    issuer.may_answer.clear()
    verifier = Verifier(issuer)
    verifier.tokens.tick(verifier.clock.now)
    waiting = asyncio.create_task(verifier.verify(by_second()))
    await let_run()
    issuer.may_answer.set()
    with pytest.raises(Unauthenticated, match=UNKNOWN):
        await waiting
    issuer.document = key_set(FIRST, SECOND)
    assert await verifier.verify(by_second())
    assert len(issuer.fetched) == 2


async def test_without_keys_a_verified_identity_is_refused():
    before, after = Verifier(Published(FIRST)), Verifier(Published(FIRST))
    identity = await before.verify(by_first())
    with pytest.raises(Unauthenticated, match=WITHDRAWN):
        after.tokens.check(identity, NOW)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (DOWN, "no response (connection refused)"),
        (b"<html>", "the response is not JSON"),
        (b"[]", "the response is not a JSON object with a list named keys"),
    ],
)
async def test_the_last_good_keys_stay_while_the_issuer_is_down_or_sends_garbage(document, reason):
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    await verifier.tick()
    issuer.document = document
    for _ in range(2):
        verifier.clock.now += 600
        await verifier.tick()
    identity = await verifier.verify(by_first())
    verifier.tokens.check(identity, NOW)
    said = {"event": "jwks_unavailable", "level": "warning", "issuer": ISSUER, "reason": reason}
    assert verifier.lines[1:] == [said, said]
    await refused(verifier, by_second(), UNKNOWN)


async def test_a_token_that_is_refused_anyway_triggers_no_fetch():
    issuer = Published(FIRST)
    verifier = Verifier(issuer)
    for changed, sentence in (
        ({"exp": NOW - 600}, "expired"),
        ({"aud": "other"}, "audience"),
        ({"sub": ""}, "caller"),
        ({"iss": "https://evil.example"}, "issuer"),
    ):
        await refused(verifier, token(**changed), sentence)
    await refused(verifier, token("ES256", header={"alg": "HS256"}), "algorithm")
    assert issuer.fetched == []


async def test_a_known_key_for_another_algorithm_triggers_no_fetch():
    issuer = Published(jwk(rsa_key(), kid="k1", alg="RS256"))
    verifier = Verifier(issuer)
    await verifier.tick()
    await refused(verifier, token("PS256"), r"^The token names a key \(kid\) that is not for its algorithm")
    await refused(verifier, token("ES256"), r"^The token names a key \(kid\) that is not for its algorithm")
    assert len(issuer.fetched) == 1


async def test_each_issuer_has_its_own_fetches():
    fetched = []

    async def fetch(url):
        fetched.append(url)
        if "other" in url:
            raise DOWN
        return key_set(FIRST)

    other = settings(issuer="https://other", jwks_url="https://other/keys")
    verifier = Verifier(fetch, settings(), other)
    assert await verifier.verify(by_first())
    await unavailable(verifier, token(iss="https://other"), 30)
    assert fetched == [f"{ISSUER}/jwks.json", "https://other/keys"]
    assert [line["issuer"] for line in verifier.lines] == [ISSUER, "https://other"]


async def test_a_bug_in_a_fetch_is_reported_and_ends_the_wait():
    issuer = Published()
    issuer.document = ZeroDivisionError("bug")
    verifier = Verifier(issuer)
    await unavailable(verifier, by_first(), 30)
    assert [type(bug) for bug in verifier.bugs] == [ZeroDivisionError]
    issuer.document = key_set(FIRST)
    verifier.clock.now += 30
    assert await verifier.verify(by_first())


async def test_a_fetch_that_was_cancelled_can_be_started_again():
    issuer = Published(FIRST)
    issuer.may_answer.clear()
    verifier = Verifier(issuer)
    waiting = asyncio.create_task(verifier.verify(by_first()))
    await let_run()
    await verifier.tasks.join(0)
    with pytest.raises(AuthUnavailable, match=UNAVAILABLE):
        await waiting
    issuer.may_answer.set()
    verifier.clock.now += 30
    assert await verifier.verify(by_first())


async def test_a_document_is_read_in_a_thread(monkeypatch):
    seen, read = [], KeySet.read
    monkeypatch.setattr(
        KeySet, "read", lambda *args: seen.append(threading.current_thread().name) or read(*args)
    )
    verifier = Verifier(Published(FIRST))
    await verifier.tick()
    assert await verifier.verify(by_first())
    assert seen == ["jwks_0"]
