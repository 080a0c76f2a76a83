"""Folders of sockets and of the log file that are missing, or that this user may not write."""

from __future__ import annotations

import os
import re
import socket

import pytest

from gateway.config import read, read_environment

ABSENT = "does not exist on this machine: create it, unless the service manager does, or write another path"
FORBIDDEN = "may not be written by this user: let the gateway's user write it, or write another path"

WORDS = re.compile("folder|no socket|this file")


@pytest.fixture
def warned(write):
    """The warnings of a configuration that are about its folders."""

    def warned(top, environ=None):
        reading = read(write(f"{top}\n"), environ or {})
        assert reading.config is not None
        return [(one.key, one.message) for one in reading.warnings if WORDS.search(one.message)]

    return warned


def test_a_missing_folder_of_a_socket_is_named(warned):
    named = f'the folder "/no/such" {ABSENT}'
    assert warned("server: {listen: unix:/no/such/x.sock}") == [("server.listen", named)]
    several = "server: {listen: [127.0.0.1:1, unix:/no/such/x.sock]}"
    assert warned(several) == [("server.listen[1]", named)]


def test_a_folder_that_this_user_may_not_write_is_named(warned, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    found = warned(f"server: {{listen: unix:{tmp_path}/x.sock}}")
    assert found == [("server.listen", f'the folder "{tmp_path}" {FORBIDDEN}')]


def test_a_file_in_the_place_of_a_socket_is_named(warned, tmp_path):
    (tmp_path / "x.sock").touch()
    ((key, message),) = warned(f"server: {{listen: unix:{tmp_path}/x.sock}}")
    assert (key, message[:33]) == ("server.listen", "there is a file that is no socket")


def test_a_log_that_this_user_may_not_write_is_named(warned, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert warned("logs: {file: a.log}") == [("logs.file", f'the folder "{tmp_path}" {FORBIDDEN}')]
    (tmp_path / "a.log").touch()
    ((key, message),) = warned("logs: {file: a.log}")
    assert (key, message[:34]) == ("logs.file", "this user may not write this file:")
    monkeypatch.undo()
    assert warned("logs: {file: a.log}") == []


def test_a_folder_that_is_there_and_a_socket_that_is_left_are_right(warned, tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "x.sock"))
    assert warned(f"server: {{listen: [unix:{tmp_path}/x.sock, unix:{tmp_path}/y.sock]}}") == []


def test_a_folder_that_a_variable_has_is_not_shown(warned):
    ((_, message),) = warned('server: {listen: "unix:${PLACE}/x.sock"}', {"PLACE": "/hidden"})
    assert message == f'the folder of the value of "unix:${{PLACE}}/x.sock" {ABSENT}'


def test_a_socket_of_the_environment_is_named_with_its_variable():
    environ = {
        "FLOWISE_URL": "http://127.0.0.1:3000",
        "GATEWAY_ROUTES": "a=2c5e8d0a-1111-4222-8333-444455556666",
        "GATEWAY_AUTH": "anonymous",
        "GATEWAY_LISTEN": "unix:/no/such/x.sock",
        "GATEWAY_TRUSTED_PROXIES": "unix",
    }
    found = [(one.file, one.key, one.message) for one in read_environment(environ).warnings]
    assert [one for one in found if "folder" in one[2]] == [
        ("GATEWAY_LISTEN", "", f'the folder "/no/such" {ABSENT}')
    ]
