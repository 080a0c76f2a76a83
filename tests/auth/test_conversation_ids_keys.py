"""Keys derived from a secret, compared with another implementation of RFC 5869."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.conversation_ids import derived_key
from tests.harness.hkdf import hkdf

PURPOSES = ["session-token", "conversation-id", "conversation-mac"]


@given(st.binary(min_size=1, max_size=100), st.sampled_from(PURPOSES))
def test_a_key_is_hkdf_of_the_secret_for_the_purpose(secret, purpose):
    assert derived_key(secret, purpose) == hkdf(secret, b"flowise-gateway " + purpose.encode())


def test_the_keys_of_one_secret_differ():
    assert len({derived_key(b"s" * 32, purpose) for purpose in PURPOSES}) == len(PURPOSES)


@pytest.mark.parametrize(
    ("purpose", "key"),
    [
        ("session-token", "0c10f9cd1005344787b0b5ff372c73372f4fa15901528c1a0428c850b23c599d"),
        ("conversation-id", "8db0038ffe9f2ce328f796e9ee40410bbfc7821a4e26a22be50fd081aa8dc932"),
        ("conversation-mac", "27f60aa9d8a2203468d74155f4f9d5fe4277810e0100b2c33d3b746fb5ee5946"),
    ],
)
def test_derived_keys_never_change(purpose, key):
    """A change would invalidate every conversation and token."""
    assert derived_key(b"0123456789abcdef0123456789abcdef", purpose).hex() == key
