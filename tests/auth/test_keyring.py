from __future__ import annotations

import hmac
import math

import pytest

from gateway.auth import keyring as module
from gateway.auth.key_format import hash_of, make_key
from gateway.auth.keyring import NOT_VALID, Keyring
from gateway.auth.keys_file import read_keys
from gateway.auth.keys_model import ApiKey
from gateway.errors import Unauthenticated
from tests.harness.api_keys import mistyped
from tests.harness.key_files import NOW, entry, key, key_id, write_keys


@pytest.fixture
def ring(tmp_path):
    """Key 1 never expires, 2 expires in a minute, 3 is revoked, 4 is replaced and expires in a minute."""
    soon = "2026-01-31T08:01:00Z"
    path = write_keys(
        tmp_path / "keys.yaml",
        entry(1, "backend", routes="[support, sales]", limits="[{name: open, concurrent: 2}]"),
        entry(2, expires=soon),
        entry(3, revoked=soon, expires=soon),
        entry(4, "ann", expires=soon, replaced_by=key_id(5)),
        entry(5, "ann"),
    )
    return Keyring(read_keys(path))


def refusal(ring, text, now=NOW):
    with pytest.raises(Unauthenticated) as refused:
        ring.check(text, now)
    return refused.value.message


def test_a_valid_key_has_routes_limits_and_expiry(ring):
    found = ring.check(key(1), NOW)
    assert (found.id, found.name, found.ends_at) == (key_id(1), "backend", math.inf)
    assert found.allowed_routes == frozenset({"support", "sales"})
    assert [(limit.name, limit.concurrent) for limit in found.limits] == [("open", 2)]
    assert found.hash == hash_of(key(1))


def test_the_caller_of_a_key_is_what_the_keys_say_now(ring, tmp_path):
    found = ring.check(key(1), NOW)
    caller = ring.caller_of(found)
    assert (caller.name, caller.user, caller.key_id) == ("key:backend", "backend", key_id(1))
    assert (caller.routes, caller.limits) == (frozenset({"support", "sales"}), found.limits)
    assert ring.caller_of(ring.check(key(1), NOW)) is caller
    ring.replace(read_keys(write_keys(tmp_path / "keys.yaml", entry(1, "backend", routes="[sales]"))))
    narrowed = ring.caller_of(ring.check(key(1), NOW))
    assert (narrowed.routes, narrowed.limits) == (frozenset({"sales"}), ())


def test_a_key_without_routes_may_use_all(ring):
    assert ring.check(key(5), NOW).allowed_routes is None


def test_a_key_is_valid_up_to_its_expiry(ring):
    assert ring.check(key(2), NOW + 59.9).expires == NOW + 60
    assert refusal(ring, key(2), NOW + 60) == NOT_VALID


def test_both_keys_of_a_rotation_work_until_the_older_ends(ring):
    assert ring.check(key(4), NOW).name == ring.check(key(5), NOW).name == "ann"
    assert refusal(ring, key(4), NOW + 60) == NOT_VALID
    assert ring.check(key(5), NOW + 60).name == "ann"


def test_malformed_and_mistyped_keys_have_errors_of_their_own(ring):
    assert refusal(ring, "sk-123").startswith("This is not an API key of this gateway: keys begin with fgw_")
    assert refusal(ring, mistyped(key(1))).startswith("This API key has a typo")


def with_the_id_of(number, other):
    """A well-formed key that has this id, and the secret of another."""
    letters = iter(key(number)[4:12] + key(other)[13:45])
    return make_key(lambda _: next(letters))


@pytest.fixture
def wrong_keys():
    return {
        "unknown": key(9),
        "wrong secret": with_the_id_of(1, 9),
        "revoked": key(3),
        "expired": key(2),
        "revoked, wrong secret": with_the_id_of(3, 9),
    }


def test_unknown_wrong_revoked_and_expired_have_the_same_error(ring, wrong_keys):
    assert {refusal(ring, text, NOW + 60) for text in wrong_keys.values()} == {NOT_VALID}


def test_unknown_wrong_revoked_and_expired_are_refused_by_the_same_steps(ring, wrong_keys, monkeypatch):
    steps, compare = [], hmac.compare_digest

    def compared(stored, given):
        steps.append((len(stored), len(given)))
        return compare(stored, given)

    monkeypatch.setattr(module.hmac, "compare_digest", compared)
    for text in wrong_keys.values():
        refusal(ring, text, NOW + 60)
    assert steps == [(71, 71)] * len(wrong_keys)


def test_a_key_is_found_by_its_id_while_it_is_valid(ring):
    assert ring.get(key_id(2), NOW).id == key_id(2)
    assert ring.get(key_id(2), NOW + 60) is None
    assert ring.get(key_id(3), NOW) is None
    assert ring.get("00000000", NOW) is None


def test_replacing_the_keys_leaves_none_of_the_old(ring):
    assert len(ring) == 5
    ring.replace([ApiKey.model_construct(id=key_id(8), name="new", hash=hash_of(key(8)))])
    assert len(ring) == 1
    assert ring.check(key(8), NOW).name == "new"
    assert refusal(ring, key(1)) == NOT_VALID
    assert ring.get(key_id(1), NOW) is None


def test_an_empty_keyring_refuses_every_key():
    assert refusal(Keyring(), key(1)) == NOT_VALID
    assert Keyring().get("", NOW) is None


def test_repr_shows_no_hash(ring):
    assert hash_of(key(1))[7:15] not in repr(ring.check(key(1), NOW))
    assert "hash" not in repr(ring.check(key(1), NOW))


def test_the_next_end_is_that_of_the_first_valid_key_to_expire():
    ends = [{"expires": 5.0}, {"expires": 9.0}, {}, {"expires": 7.0, "revoked": 9.0}]
    ring = Keyring(ApiKey.model_construct(id=str(number), **end) for number, end in enumerate(ends))
    assert ring.next_end == -math.inf  # unknown before the first look
    for now, end in ((0.0, 5.0), (5.0, 9.0), (9.0, math.inf)):
        ring.look_ahead(now)
        assert ring.next_end == end


def test_a_key_that_is_accepted_again_after_the_clock_stepped_back_ends_again(ring):
    ring.look_ahead(NOW + 3600)  # forward
    assert ring.next_end == math.inf
    ring.check(key(5), NOW)
    assert ring.next_end == math.inf
    ring.check(key(2), NOW)
    assert ring.next_end == NOW + 60
    ring.look_ahead(NOW + 3600)
    ring.get(key_id(4), NOW)  # of a session
    assert ring.next_end == NOW + 60
