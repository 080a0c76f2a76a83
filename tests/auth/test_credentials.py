from __future__ import annotations

import pytest

from gateway.auth.credentials import LONGEST_FLOWISE_KEY, looks_like_jwt, read_credentials
from gateway.errors import BadRequest, Unauthenticated

FLOWISE_KEY = "D2gFs0FQqby9n1OwT-bgqglZ9kGEV-MNIT1Vg9QUTPs"


def read(*authorizations, keys=(), path="", jwt=""):
    return read_credentials(authorizations, keys, path, lambda text: text == jwt)


@pytest.mark.parametrize(
    ("authorization", "key"),
    [
        (f"Bearer {FLOWISE_KEY}", FLOWISE_KEY),
        (f"bearer  {FLOWISE_KEY}", FLOWISE_KEY),
        (FLOWISE_KEY, FLOWISE_KEY),
        ("Bearer a.b.c", "a.b.c"),
        ("Basic dXNlcjpwdw==", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("", ""),
        ("Bearer a b", ""),
        ("Bearer schlüssel", ""),
        ("Bearer " + "a" * LONGEST_FLOWISE_KEY, "a" * LONGEST_FLOWISE_KEY),
        ("Bearer " + "a" * (LONGEST_FLOWISE_KEY + 1), ""),
    ],
)
def test_a_foreign_credential_and_whether_flowise_could_take_it(authorization, key):
    sent = read(authorization)
    assert (sent.own, sent.foreign, sent.flowise_key) == ((), 1, key)
    with pytest.raises(Unauthenticated, match="no key of this gateway"):
        sent.check_all_own()


def test_flowise_reads_no_other_field():
    assert (read(keys=[FLOWISE_KEY]).foreign, read(keys=[FLOWISE_KEY]).flowise_key) == (1, "")
    assert read(f"Bearer {FLOWISE_KEY}", keys=["x"]).flowise_key == ""


@pytest.mark.parametrize("text", ["fgw_x", "fgs_x.y", "OUR.JWT.x"])
def test_our_own_are_recognized_in_every_field(text):
    assert read(f"Bearer {text}", jwt="OUR.JWT.x").own == (text,)
    assert read(keys=[text], jwt="OUR.JWT.x").own == (text,)
    assert read("Basic x", keys=[text], jwt="OUR.JWT.x").own == (text,)
    assert read("Basic x", keys=[text], jwt="OUR.JWT.x").foreign == 1
    assert read(path=text).own == (text,)


@pytest.mark.parametrize("text", ["fgw_x", "Basic fgw_x", "Bearer fgw_a fgw_b", "Bearer fgs_é"])
def test_what_holds_our_prefix_is_never_foreign(text):
    with pytest.raises(Unauthenticated, match="cannot be read"):
        read(text)


def test_two_of_our_own_are_refused_and_foreign_ones_beside_it_where_they_matter():
    with pytest.raises(BadRequest, match="more than one"):
        read("Bearer fgw_x", keys=["fgw_x"]).only()
    one = read("Basic x", keys=["fgw_x"])
    assert one.only() == "fgw_x"
    with pytest.raises(BadRequest, match="more than one"):
        one.check_all_own()
    assert read().only() is None
    read("Bearer fgw_x").check_all_own()


def test_no_secret_is_shown():
    assert FLOWISE_KEY not in repr(read(f"Bearer {FLOWISE_KEY}"))
    assert "fgw_secret" not in repr(read("Bearer fgw_secret"))


def test_a_jwt_has_three_parts():
    assert [looks_like_jwt(text) for text in ("a.b.c", "a.b", "a.b.c.d", "")] == [True, False, False, False]
