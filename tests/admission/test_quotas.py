"""Quotas: the numbers of a limit, and bucket keys that no caller can influence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.quotas import LimitResolver, digest, slot_keys, subject
from gateway.config import Limit
from tests.harness.limit_process import MINUTE, quota, requests, slots, tokens

LONGEST_NAME = "\U0001f600" * 256
subjects = st.text(st.characters(), max_size=40)


def test_a_request_costs_one_and_tokens_their_estimate_and_the_reserve():
    assert requests(60).charge(subject("me"), question=4000).cost == requests(60).rule.cost(1)
    daily = tokens(200_000, reserve=1000)
    assert daily.charge(subject("me")).cost == daily.rule.cost(1000)
    assert daily.charge(subject("me"), question=9).cost == daily.rule.cost(1003)
    assert slots(4).charge(subject("me"), question=9).cost == 1


def test_a_quota_has_the_name_and_the_sharing_of_its_limit():
    assert requests(60, by="route").by == "route"
    assert [one.name for one in (requests(60), tokens(5), slots(1))] == ["burst", "daily", "open"]


def test_burst_is_the_number_that_passes_at_once():
    assert requests(60, burst=5).rule.status(0).remaining == 5
    assert requests(60).rule.status(0).remaining == 60


def test_a_scope_is_a_hash_tag_so_its_limits_share_a_slot():
    keys = [
        one.charge(subject(caller)).key
        for one in (requests(60), tokens(5), slots(1))
        for caller in ("me", "you")
    ]
    assert {key[key.index("{") : key.index("}") + 1] for key in keys} == {"{route:support}"}
    assert len(set(keys)) == 6
    assert all(key.startswith("fgw:{") for key in keys)


def test_a_limit_keeps_its_buckets_unless_its_kind_or_its_time_changes():
    same = requests(60, MINUTE).charge(subject("me")).key
    for kept in (requests(60, MINUTE, burst=5), requests(30, MINUTE), requests(7, MINUTE)):
        assert kept.charge(subject("me")).key == same
    for other in (requests(60, 30.0), quota("burst", tokens=60, per=MINUTE)):
        assert other.charge(subject("me")).key != same
    assert tokens(100).charge(subject("me")).key == tokens(500).charge(subject("me")).key
    assert slots(1).charge(subject("me")).key == slots(9).charge(subject("me")).key


def test_a_changed_amount_keeps_the_share_that_is_used():
    before, after = requests(60, MINUTE).rule, requests(20, MINUTE).rule
    half = 30 * before.need
    assert (before.status(half).remaining, after.status(half).remaining) == (30, 10)
    assert (before.status(before.depth).remaining, after.status(before.depth).remaining) == (0, 0)


@pytest.mark.parametrize("name", [LONGEST_NAME, "a}b{c", "a:b", "\n", "\0", "\ud800", ""])
def test_a_key_is_short_and_harmless_whatever_the_caller_is_called(name):
    key = requests(60).charge(subject(name)).key
    assert len(key) < 100
    assert key.isascii()
    assert key.isprintable()
    assert key.count("{") == key.count("}") == 1


def test_an_unsafe_scope_or_limit_name_is_replaced_by_its_digest():
    key = quota("na me}", scope="key:\N{SNOWMAN}" * 100, requests=1, per=1.0).charge(subject("me")).key
    assert len(key) < 150
    assert key.isascii()
    assert key.count("}") == 1
    assert (
        quota("n", scope="~" + "0" * 32, requests=1, per=1.0).charge(subject("me")).key.startswith("fgw:{~")
    )


@given(st.lists(subjects, max_size=3), st.lists(subjects, max_size=3))
def test_different_texts_have_different_digests(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


def test_slot_keys():
    one, two = slots(1).charge(subject("me")), slots(2, scope="key:k").charge(subject("me"))
    assert slot_keys([requests(1).charge(subject("me")), one, two]) == (one.key, two.key)


def test_limits_that_are_remembered_are_those_of_the_caller_and_the_address():
    limits = [
        Limit.model_construct(name=by, requests=9, per=MINUTE, by=by) for by in ("caller", "address", "route")
    ]
    route = SimpleNamespace(name="support", limits=limits, takes_flowise_keys=False)
    resolver = LimitResolver([route])
    sent = [("key:ann", "10.0.0.1"), ("key:bob", "10.0.0.1"), ("key:ann", "10.0.0.2")]
    first, again = ([resolver.of_route("support", *one) for one in sent] for _ in range(2))
    assert first == again
    keys = [[limit.fixed.key for limit in found] for found in first]
    assert keys == [[limit.quota.charge(limit.subject).key for limit in found] for found in first]
    assert [len({of[place] for of in keys}) for place in range(3)] == [2, 2, 1]
