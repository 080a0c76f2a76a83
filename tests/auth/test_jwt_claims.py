"""Which claims a token must have, at the edges of every time."""

from __future__ import annotations

import math

import pytest

from gateway.auth.caller import LONGEST_NAME
from gateway.auth.jwt import LATEST
from gateway.auth.key_set import KeySet
from gateway.errors import Unauthenticated
from tests.harness.jwt_tokens import (
    AUDIENCE,
    CLAIMS,
    EVERY_ALGORITHM,
    ISSUER,
    NOW,
    Published,
    Verifier,
    ed_key,
    jwk,
    key_set,
    settings,
    token,
)

LEEWAY = 30
AUDIENCE_WRONG = r"^The token is not for this audience \(aud\)\.$"
EXPIRED = r"^The token has expired\.$"
EARLY = r"^The token is not valid yet\.$"
NO_EXPIRY = r"^The token has no expiry \(exp\)\.$"


KEYS = KeySet.read(key_set(jwk(ed_key(), kid="k1")), EVERY_ALGORITHM)


def identity(now=NOW, *, others=(), left_out=(), rules=None, **changed):
    """The caller of a token with these claims, by the rules of the first of the issuers."""
    ours = settings(**(rules or {}))
    others = [settings(issuer=name) for name in others if name != ours.issuer]
    verifier = Verifier(Published(), ours, *others)
    for issuer in verifier.keys:
        issuer.current = KEYS
    claims = {**CLAIMS, "iss": ours.issuer, **changed}
    claims = {name: value for name, value in claims.items() if name not in left_out}
    try:
        verifier.verify(token("EdDSA", claims=claims), now).send(None)
    except StopIteration as verified:
        return verified.value
    raise AssertionError("it waited, though the key is known")


def refused(sentence, now=NOW, **more):
    with pytest.raises(Unauthenticated, match=sentence):
        identity(now, **more)


def no_moment(name):
    return rf"^The token's {name} must be a number of seconds since 1970\.$"


def test_a_token_names_issuer_subject_and_times():
    caller = identity()
    assert (caller.issuer, caller.subject, caller.name) == (ISSUER, "ann", f"jwt:{ISSUER}:ann")
    assert (caller.routes, caller.not_before, caller.expires_at) == (None, NOW - 40, NOW + 630)


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_the_audience_is_among_those_named(audience):
    assert identity(aud=audience).subject == "ann"


@pytest.mark.parametrize(
    "audience",
    [
        "",
        "Chat",
        "chat ",
        "chatter",
        "cha",
        [],
        ["other"],
        [[AUDIENCE]],
        [AUDIENCE, 1],
        {AUDIENCE: 1},
        1,
        None,
        True,
    ],
)
def test_another_audience_is_refused(audience):
    refused(AUDIENCE_WRONG, aud=audience)


def test_no_audience_is_refused():
    refused(AUDIENCE_WRONG, left_out=["aud"])


def test_it_ends_with_the_leeway_after_its_expiry():
    last = NOW + 600 + LEEWAY
    assert identity(last - 0.001).expires_at == last
    refused(EXPIRED, last)
    refused(EXPIRED, last + 1e6)


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_it_begins_with_the_leeway_before_it_says(name):
    """An issuer's clock may be ahead by the leeway."""
    first = NOW + LEEWAY
    assert identity(**{name: first}).not_before == NOW
    refused(EARLY, **{name: first + 1})
    refused(EARLY, **{name: first + 0.001})


def test_the_later_of_both_counts():
    refused(EARLY, nbf=NOW + 100, iat=NOW - 100)
    refused(EARLY, nbf=NOW - 100, iat=NOW + 100)


def test_without_leeway_it_ends_and_begins_on_the_second():
    none = {"leeway": "0s"}
    assert identity(NOW + 599.999, rules=none)
    refused(EXPIRED, NOW + 600, rules=none)
    assert identity(rules=none, iat=NOW)
    refused(EARLY, rules=none, iat=NOW + 1)


def test_only_an_expiry_is_required():
    assert identity(left_out=["iat", "nbf"]).not_before == -LEEWAY
    refused(NO_EXPIRY, left_out=["exp"])


def test_a_moment_may_have_a_fraction():
    assert identity(exp=NOW + 0.5).expires_at == NOW + 30.5


def test_the_times_of_an_identity_are_checked_on_each_use():
    caller = identity()
    caller.check(NOW + 629.999)
    for now, sentence in ((NOW + 630, EXPIRED), (NOW - 41, EARLY)):
        with pytest.raises(Unauthenticated, match=sentence):
            caller.check(now)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "moment",
    [
        *(str(NOW + 600), "", None, True, False, [NOW], {}),
        *(
            1e300,
            10**400,
            -(10**400),
            253_402_300_800,  # the year 10000
            (NOW + 600) * 1000,
            -1,
            -0.5,
        ),
    ],
)
def test_a_moment_is_a_number_of_seconds(name, moment):
    refused(no_moment(name), **{name: moment})


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf])
def test_a_moment_that_is_not_json_is_refused(name, moment):
    refused(r"^The token is malformed: ", **{name: moment})


def test_the_first_and_the_last_moment():
    assert identity(nbf=0, exp=LATEST).expires_at == LATEST + LEEWAY
    refused(EXPIRED, exp=0)


@pytest.mark.parametrize(
    "subject",
    ["", 1, True, None, ["ann"], {}, "a\nb", "\x00", "a\x7f", "a\x85", "\ud800", "a\tb"],
)
@pytest.mark.parametrize("claim", ["sub", "email"])
def test_a_caller_is_a_text_without_control_characters(subject, claim):
    sentence = rf"^The token does not name its caller: {claim} must be text without control characters\.$"
    refused(sentence, rules={"caller_claim": claim}, **{claim: subject})


def test_a_token_names_its_caller():
    refused(r"^The token does not name its caller: sub must be", left_out=["sub"])
    refused(r"^The token does not name its caller: email must be", rules={"caller_claim": "email"})
    assert identity(rules={"caller_claim": "email"}, email="ann@example.com").subject == "ann@example.com"


def test_a_full_name_has_at_most_256_characters():
    longest = "é" * (LONGEST_NAME - len(f"jwt:{ISSUER}:"))
    assert len(identity(sub=longest).name) == LONGEST_NAME
    refused(
        r"^The token's caller \(sub\) is too long: the limit is 256 characters with its issuer\.$",
        sub=longest + "é",
    )


def test_no_caller_has_the_name_of_another_issuers_caller():
    others = [ISSUER, f"{ISSUER}:8443", f"{ISSUER}:8443:x", "https://other"]
    sentence = r"^The token's caller \(sub\) could be mistaken for one of another issuer\.$"
    refused(sentence, others=others, sub="8443:ann")
    refused(sentence, others=others, sub="8443:x:ann")
    assert identity(others=others, sub="8443").subject == "8443"
    assert identity(others=others, sub="8444:ann").subject == "8444:ann"
    theirs = {"issuer": f"{ISSUER}:8443"}
    assert identity(others=others, rules=theirs).name == f"jwt:{ISSUER}:8443:ann"


@pytest.mark.parametrize(
    ("claimed", "routes"),
    [
        (["a", "b"], {"a", "b"}),
        ([], set()),
        ("a b", {"a", "b"}),
        (" a  b ", {"a", "b"}),
        ("a,b", {"a,b"}),
        ("", set()),
        (["a", 1], set()),
        ([["a"]], set()),
        ({"a": 1}, set()),
        (None, set()),
        (True, set()),
        (1, set()),
    ],
)
def test_routes_are_a_list_or_a_string_and_anything_else_allows_none(claimed, routes):
    assert identity(rules={"routes_claim": "routes"}, routes=claimed).routes == frozenset(routes)


def test_missing_routes_allow_none_unless_no_claim_is_configured():
    assert identity(rules={"routes_claim": "routes"}).routes == frozenset()
    assert identity(routes=["a"]).routes is None
