"""The client is the nearest address that is not a trusted proxy, whatever the fields say."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.http.forwarded import MAX_HOPS, client_address, is_trusted, site_of

TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32", "fe80::/10")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "client"),
    [
        ("9.9.9.9", ["1.2.3.4"], [], "9.9.9.9"),
        ("9.9.9.9", [], ["for=1.2.3.4"], "9.9.9.9"),
        ("10.0.0.1", [], [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], [], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4,10.0.0.2"], [], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], [], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], [], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4", ""], [], "10.0.0.1"),
        ("10.0.0.1", ["x"], ["for=1.2.3.4"], "10.0.0.1"),
        ("2001:db8::1", ["[2001:db9::1]:80"], [], "2001:db9::1"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], [], "1.2.3.4"),
        ("10.0.0.1", [], ['by=x;for="[2001:db9::1]:80";proto=https'], "2001:db9::1"),
        ("10.0.0.1", [], ["for=6.6.6.6, FOR=1.2.3.4:99"], "1.2.3.4"),
        ("10.0.0.1", [], ["for=unknown"], "10.0.0.1"),
        ("10.0.0.1", [], ["xfor=1.2.3.4"], "10.0.0.1"),
        ("", ["1.2.3.4"], [], ""),
        ("10.0.0.1", ["2001:db9::1%evil text"], [], "10.0.0.1"),
        ("10.0.0.1", ["2001:db9::1%\udcff"], [], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db9::1%evil]:80"], [], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 10.0.0.2%x, 10.0.0.3"], [], "10.0.0.3"),
        ("10.0.0.1", [], ['for="[2001:db9::1%evil text]"'], "10.0.0.1"),
        ("fe80::1%eth0", ["1.2.3.4"], [], "1.2.3.4"),
    ],
)
def test_client_address(peer, forwarded_for, forwarded, client):
    assert client_address(peer, forwarded_for, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    ("text", "answer"),
    [("10.1.2.3", True), ("11.0.0.1", False), ("2001:db8::9", True), ("", False), ("10.0.0", False)],
)
def test_is_trusted(text, answer):
    assert is_trusted(text, TRUSTED) is answer


def test_only_the_nearest_hops_are_looked_at():
    for between, client in ((MAX_HOPS - 1, "1.2.3.4"), (MAX_HOPS, "10.0.0.9"), (2000, "10.0.0.9")):
        fields = ["1.2.3.4" + ", 10.0.0.9" * between]
        assert client_address("10.0.0.1", fields, [], TRUSTED) == client
        assert client_address("10.0.0.1", fields[0].split(", "), [], TRUSTED) == client
        assert (
            client_address(
                "10.0.0.1", [], [", ".join(f"for={hop}" for hop in fields[0].split(", "))], TRUSTED
            )
            == client
        )


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2%eth0", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("x:y", "x:y"),
        ("", ""),
    ],
)
def test_a_site_is_an_address_or_the_network_of_one(address, site):
    assert site_of(address) == site
