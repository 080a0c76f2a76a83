from __future__ import annotations

import pytest

from gateway.auth.caller import ANONYMOUS, Caller
from gateway.auth.claims import LONGEST_CLAIM, claim_text, claim_texts, filled
from gateway.errors import BadRequest, Forbidden

ANN = Caller(
    "jwt:i:ann", "jwt", "ann", claims={"tenant": "acme", "roles": None, "https://example.com/t": "x"}
)
SESSION = Caller("session:k/ann", "session", "ann", claims={"tenant": "shop"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("acme", "acme"), ("Grüße 😀 \u200b", "Grüße 😀 \u200b"), ("a" * LONGEST_CLAIM, "a" * LONGEST_CLAIM),
        (True, "true"), (False, "false"), (42, "42"), (-1.5, "-1.5"), (0, "0"), (10**30, "1" + "0" * 30),
        ("a" * (LONGEST_CLAIM + 1), None), (10**300, None), (float("inf"), None), (float("nan"), None),
        ("a\r\nX-Evil: 1", None), ("a\x00", None), ("a\x7f", None), ("a\x9f", None), ("\ud800", None),
        ("a\u2028b", None), (["acme"], None), ({"a": 1}, None), ([], None), (None, None),
    ],
)  # fmt: skip
def test_scalars_of_bounded_length_are_text(value, text):
    assert claim_text(value) == text


def test_null_and_empty_claims_are_missing_and_the_others_are_kept_as_unusable():
    assert claim_texts({"a": None, "b": "", "c": [], "d": 0, "e": "x" * 300}) == {
        "c": None,
        "d": "0",
        "e": None,
    }


@pytest.mark.parametrize(
    ("template", "caller", "text"),
    [
        ("{claims.tenant}", ANN, "acme"),
        ("a-{claims.tenant}-{user}-{route}", ANN, "a-acme-ann-chat"),
        ("{claims.tenant:-none}", ANN, "acme"),
        ("{claims.other:-none}", ANN, "none"),
        ("{claims.other:-}", ANN, ""),
        ("{claims.https://example.com/t}", ANN, "x"),
        ("{claims.https://example.com/u:-a:-b}", ANN, "a:-b"),
        ("{session.tenant}", SESSION, "shop"),
        ("{session.tenant:-none}", ANN, "none"),
        ("{claims.tenant:-none}", SESSION, "none"),
        ("{claims.tenant:-none}", ANONYMOUS, "none"),
        ('{"a": 1} {}', ANN, '{"a": 1} {}'),
    ],
)
def test_placeholders_are_filled(template, caller, text):
    assert filled(template, caller, "chat") == text


def test_a_value_is_not_filled_again():
    caller = Caller("jwt:i:{claims.b}", "jwt", "u", claims={"a": "{claims.b}", "b": "secret"})
    assert filled("{claims.a}{caller}", caller, "chat") == "{claims.b}jwt:i:{claims.b}"


@pytest.mark.parametrize(
    ("template", "caller", "message"),
    [
        ("{claims.other}", ANN, "requires a JWT with the claim other"),
        ("{claims.tenant}", SESSION, "requires a JWT with the claim tenant"),
        ("{session.tenant}", ANN, "requires a session token with the claim tenant"),
        ("{session.tenant}", ANONYMOUS, "requires a session token"),
        ("{claims.roles}", ANN, "The claim roles cannot be used"),
        ("{claims.roles:-none}", ANN, "The claim roles cannot be used"),
    ],
)
def test_a_claim_that_is_missing_or_cannot_be_used_is_refused(template, caller, message):
    with pytest.raises(Forbidden, match=message):
        filled(template, caller, "chat")


@pytest.mark.parametrize(
    ("template", "claim"),
    [
        ("{claims.a}", 'FILE-STORAGE::["x"]'),
        ("FILE-{claims.a}", "STORAGE::x"),
        ("{claims.a}", "FILE\\u002dSTORAGE::x"),
        ("{claims.a}", "FILE\\\\u002dSTORAGE::x"),
    ],
)
def test_a_claim_cannot_name_a_stored_file(template, claim):
    with pytest.raises(BadRequest, match="FILE-STORAGE::"):
        filled(template, Caller("jwt:i:a", "jwt", claims={"a": claim}), "chat")


def test_claims_are_not_shown():
    assert "acme" not in repr(ANN)
