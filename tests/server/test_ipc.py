"""A worker receives its configuration as it was sent, in any pieces, or not at all."""

from __future__ import annotations

import socket
import threading

import pytest
import yaml

from gateway.config import load
from gateway.server.ipc import WorkerConfig, receive
from tests.harness.gateway import configuration


@pytest.fixture
def worker_config(tmp_path):
    path = tmp_path / "gateway.yaml"
    route = {"cors": {"origins": ["*"]}, "heartbeat": "1s", "events": {"withhold": ["custom:x"]}}
    server = {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}
    upstreams = {"main": {"api_key": "k", "public_url": "https://flowise.example.com"}}
    written = configuration("http://127.0.0.1:1", server=server, upstreams=upstreams, route=route)
    path.write_text(yaml.safe_dump(written))
    return WorkerConfig(3, load(path, {}), line_lock=5, metrics=6)


@pytest.fixture
def channel():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_it_arrives_as_it_was_sent(worker_config, channel):
    ours, theirs = channel
    ours.sendall(worker_config.encode() + b"drain\n")
    received = receive(theirs)
    assert received == worker_config
    assert received.config.upstreams["main"].api_key.get_secret_value() == "k"
    assert theirs.recv(100) == b"drain\n"


def test_it_arrives_byte_by_byte(worker_config, channel):
    ours, theirs = channel

    def send():
        for byte in worker_config.encode():
            ours.sendall(bytes([byte]))

    sending = threading.Thread(target=send)
    sending.start()
    assert receive(theirs) == worker_config
    sending.join()


@pytest.mark.parametrize("length", [0, 3, 4, 100, -1])
def test_a_configuration_cut_short_by_the_death_of_the_parent_is_none(worker_config, channel, length):
    ours, theirs = channel
    ours.sendall(worker_config.encode()[:length])
    ours.close()
    assert receive(theirs) is None


def test_no_secret_is_shown(worker_config):
    assert "api_key=SecretStr('**********')" in repr(worker_config)
