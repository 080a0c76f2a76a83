"""Listeners and certificates of the public port: every combination that is wrong is one line of `check`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.config import Address, UnixAddress, load, read, usable
from tests.harness.certificates import YEARS, Authority

CERTS = Path(__file__).parents[1] / "harness" / "certs"
PAIR = f"certificate: {CERTS / 'server.pem'}, key: {CERTS / 'server-key.pem'}"


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("listen: []", {"server.listen": "is empty: write at least one entry"}),
        ("listen: ''", {"server.listen": "is empty: write at least one entry"}),
        (
            "listen: [127.0.0.1:1, 127.0.0.1:1]",
            {"server.listen[1]": "overlaps an entry before it: write another"},
        ),
        ('listen: ["0.0.0.0:1", 127.0.0.1:1]', {"server.listen[1]": "overlaps an entry before it"}),
        ("listen: [unix:/a, unix:/a]", {"server.listen[1]": "overlaps an entry before it"}),
        ("listen: [127.0.0.1:1, 127.0.0.1:9090]", {"admin.listen": "overlaps server.listen"}),
        (
            'listen: "[::ffff:10.0.0.1]:80"',
            {"server.listen": '"[::ffff:10.0.0.1]:80" is an IPv4 address in the form of IPv6'},
        ),
        ("listen: unix:run/a", {"server.listen": '"unix:run/a" is not the absolute path of a socket: write'}),
        (
            "listen: unix:///run/a",
            {"server.listen": '"unix:///run/a" is not the absolute path of a socket: write'},
        ),
        ("listen: unix:/run/", {"server.listen": '"unix:/run/" has no name of a file at its end'}),
        (f"listen: unix:/{'x' * 107}", {"server.listen": f'"unix:/{"x" * 53}…" is too long for a socket'}),
        ("socket_mode: '0600'", {"server.socket_mode": "is for unix sockets, and server.listen has none"}),
        (
            "listen: unix:/a, socket_mode: '0500'",
            {"server.socket_mode": '"0500" let no process connect, which needs'},
        ),
        ("listen: unix:/a, socket_mode: rw", {"server.socket_mode": '"rw" are not permissions: write three'}),
        (f"tls: {{certificate: {CERTS / 'server.pem'}}}", {"server.tls.key": "is missing: write the file"}),
        (
            f"tls: {{key: {CERTS / 'server-key.pem'}}}",
            {"server.tls.certificate": "is missing: write the file"},
        ),
        (
            f"tls: {{client_ca: {CERTS / 'ca.pem'}}}",
            {"server.tls.client_ca": "has no effect without certificate and key"},
        ),
        ("tls: {min_version: '1.3'}", {"server.tls.min_version": "has no effect without certificate"}),
        (f"tls: {{{PAIR}, min_version: '1.1'}}", {"server.tls.min_version": '"1.1" is unknown: write 1.2, or else 1.3'}),
        (f"tls: {{{PAIR}}}, listen: unix:/a", {"server.tls": "is for HOST:PORT, and server.listen has Unix"}),
        (
            "tls: {certificate: /no/such.crt, key: /no/such.key}",
            {"server.tls.certificate": "is not a readable file", "server.tls.key": "is not a readable file"},
        ),
        (f"tls: {{certificate: {CERTS}, key: {CERTS}}}",
         {"server.tls.certificate": "is a folder", "server.tls.key": "is a folder"}),
        (
            f"tls: {{certificate: {CERTS / 'make.sh'}, key: {CERTS / 'ca.pem'}}}",
            {
                "server.tls.certificate": "holds no certificate that can be read",
                "server.tls.key": "holds no private key that can be read",
            },
        ),
        (
            f"tls: {{certificate: {CERTS / 'ca.pem'}, key: {CERTS / 'server-key.pem'}}}",
            {"server.tls.key": "does not fit the certificate: write the key with which that was requested"},
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(server, expected, messages):
    found = messages(f"server: {{{server}}}")
    assert found.keys() == expected.keys(), found
    for key, text in expected.items():
        assert text in found[key]
        assert "\n" not in found[key]


def test_one_address_or_several(loaded):
    assert loaded("server: {listen: 127.0.0.1:1}").server.listen == (Address("127.0.0.1", 1),)
    both = loaded('server: {listen: ["[::]:1", "0.0.0.0:1", unix:/run/a.sock], trusted_proxies: [unix]}')
    assert both.server.listen == (Address("::", 1), Address("0.0.0.0", 1), UnixAddress("/run/a.sock"))
    assert both.server.trusted_proxies == ("unix",)


def test_a_socket_whose_peers_are_no_proxy_is_warned_of(write):
    warning, _ = read(write("server: {listen: unix:/run/a.sock}"), {}).warnings
    assert (warning.key, "write unix into trusted_proxies" in warning.message) == ("server.listen", True)


@pytest.mark.parametrize("trusted", ["[]", "[10.0.0.0/8, unix]", "unix"])
def test_a_socket_whose_peers_are_decided_on_is_not(write, trusted):
    text = f"server: {{listen: unix:/run/a.sock, trusted_proxies: {trusted}}}"
    assert not [one for one in read(write(text), {}).warnings if one.key == "server.listen"]


@pytest.fixture
def with_tls(write):
    """Reads a configuration with these files."""

    def reading(pair):
        return read(write(f"server: {{tls: {{certificate: {pair.certificate}, key: {pair.key}}}}}"), {})

    return reading


def of_certificate(reading):
    return [str(one).partition("server.tls.")[2] for one in reading.mistakes if "server.tls" in one.key]


def test_a_certificate_with_its_issuers_is_right(with_tls, tmp_path):
    authority = Authority(tmp_path)
    assert of_certificate(with_tls(authority.pair(chain=authority.ca.read_bytes()))) == []


def test_an_expired_one_fails_the_check_and_is_served(with_tls, tmp_path, capsys):
    authority = Authority(tmp_path)
    pair = authority.pair(valid=(-YEARS, timedelta(days=-3)), chain=authority.ca.read_bytes())
    reading = with_tls(pair)
    (line,) = of_certificate(reading)
    assert line.startswith("certificate: the certificate expired on 20")
    assert line.endswith(": renew it")
    assert usable(reading).server.tls.is_on
    assert main_check(reading.mistakes[0].file) == 2
    assert "server.tls.certificate: the certificate expired" in capsys.readouterr().err


def main_check(file):
    from gateway.cli import main  # noqa: PLC0415 - as `__main__` does

    return main(["check", "--config", file])


def test_one_that_is_not_valid_yet_is_named(with_tls, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.pair(valid=(timedelta(days=3), YEARS), chain=authority.ca.read_bytes())
    (line,) = of_certificate(with_tls(pair))
    assert "is not valid before 20" in line


def test_an_issuer_that_is_missing_is_warned_of(with_tls, tmp_path):
    (line,) = of_certificate(with_tls(Authority(tmp_path).pair()))
    assert line.startswith(
        "certificate: warning: the certificate of its issuer CN=Authority is missing, which this system does not know"
    )


def test_a_certificate_for_no_host_is_warned_of(with_tls, tmp_path):
    authority = Authority(tmp_path)
    (line,) = of_certificate(with_tls(authority.pair(names=(), chain=authority.ca.read_bytes())))
    assert line.startswith("certificate: warning: the certificate names no host")


def test_a_chain_in_the_wrong_order_is_named(with_tls, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.pair()
    pair.certificate.write_bytes(authority.ca.read_bytes() + pair.certificate.read_bytes())
    (line,) = of_certificate(with_tls(pair))
    assert line.startswith("key: fits the certificate at place 2 of its file, not the first")


def test_an_encrypted_key_is_named_without_a_question(with_tls, tmp_path):
    pair = Authority(tmp_path).pair()
    key = load_pem_private_key(pair.key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    pair.key.write_bytes(encrypted)
    (line,) = of_certificate(with_tls(pair))
    assert "is encrypted, and the gateway has no passphrase: write one without a passphrase" in line


def test_files_are_relative_to_the_configuration(tmp_path, write):
    authority = Authority(tmp_path)
    authority.pair()
    path = write("server: {tls: {certificate: tls.crt, key: tls.key}}")
    assert load(path, {}).server.tls.certificate == tmp_path / "tls.crt"
