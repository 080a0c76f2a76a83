"""A briefing arrives as it was sent, in whatever pieces, or not at all."""

from __future__ import annotations

import socket
import threading

import pytest
import yaml

from gateway.config import load
from gateway.server.ipc import WorkerConfig, received
from tests.harness.gateway import configuration


@pytest.fixture
def briefing(tmp_path):
    path = tmp_path / "gateway.yaml"
    route = {"cors": {"origins": ["*"]}, "heartbeat": "1s", "events": {"withhold": ["custom:x"]}}
    server = {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}
    upstreams = {"main": {"api_key": "k", "public_url": "https://flowise.example.com"}}
    written = configuration("http://127.0.0.1:1", server=server, upstreams=upstreams, route=route)
    path.write_text(yaml.safe_dump(written))
    return WorkerConfig(3, load(path, {}), tmp_path)


@pytest.fixture
def channel():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_it_arrives_as_it_was_sent(briefing, channel):
    ours, theirs = channel
    ours.sendall(briefing.packed() + b"drain\n")
    arrived = received(theirs)
    assert arrived == briefing
    assert arrived.config.upstreams["main"].api_key.get_secret_value() == "k"
    assert theirs.recv(100) == b"drain\n"


def test_it_arrives_byte_by_byte(briefing, channel):
    ours, theirs = channel

    def send():
        for byte in briefing.packed():
            ours.sendall(bytes([byte]))

    sending = threading.Thread(target=send)
    sending.start()
    assert received(theirs) == briefing
    sending.join()


@pytest.mark.parametrize("length", [0, 3, 4, 100, -1])
def test_a_parent_that_dies_before_its_end_has_said_nothing(briefing, channel, length):
    ours, theirs = channel
    ours.sendall(briefing.packed()[:length])
    ours.close()
    assert received(theirs) is None


def test_no_secret_is_shown(briefing):
    assert "api_key=SecretStr('**********')" in repr(briefing)
