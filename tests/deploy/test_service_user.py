"""API keys for a gateway that runs as another user than the one that creates them, as deploy/README.md describes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.deploy.test_deploy import unit_settings
from tests.harness import bounds
from tests.harness.commands import typed_aside
from tests.harness.gateway import configuration
from tests.harness.image import DOCKERFILE, instructions
from tests.harness.predictions import ask
from tests.harness.processes import ROOT, gateway, run
from tests.harness.surface import answering

IMAGE, DYNAMIC = 10001, 61234  # the user of the image, and one that systemd would choose
KEYS_FILE = "/var/lib/flowise-gateway/keys.yaml"


def become(user):
    """The start of a shell command that runs the rest as another user, as systemd and Docker do."""
    return f'exec setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs "$@"'


@pytest.fixture(scope="module")
def other_users_can_run_it():
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user; needs setpriv (Debian package util-linux)")
    started = subprocess.run(
        ["/bin/sh", "-c", become(DYNAMIC), "sh", sys.executable, "-m", "gateway", "--version"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=bounds.STEP,
    )
    if started.returncode:
        pytest.skip("other users cannot read this Python or this repository")


@pytest.fixture
def folder(other_users_can_run_it):
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="service-user-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def written(folder):
    """Writes a configuration with a keys file, as root; returns its path."""

    def write(upstream, keys_file):
        path = folder / "gateway.yaml"
        sections = {"auth": {"keys_file": str(keys_file)}, "route": {"auth": ["api_key"]}}
        path.write_text(yaml.safe_dump(configuration(upstream, **sections)))
        path.chmod(0o644)
        return str(path)

    return write


def state(folder, user, mode=0o700):
    """The folder of a service, as `StateDirectory` and the image have it."""
    path = folder / "state"
    path.mkdir()
    path.chmod(mode)
    os.chown(path, user, user)
    return path


def owned(path):
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


async def status(child, key):
    found, *_ = await ask(f"http://127.0.0.1:{child.port}", "chat", "hi", streaming=False, key=key)
    return found


async def test_keys_that_root_creates_are_valid_in_a_service_with_a_user_of_its_own(folder, written):
    keys = state(folder, DYNAMIC) / "keys.yaml"
    async with answering() as upstream:
        path = written(upstream.url, keys)
        assert (await run("check", "--config", path, before=become(DYNAMIC)))[0] == 0
        async with gateway("serve", "--config", path, before=become(DYNAMIC)) as child:
            await child.listens()
            for number in (1, 2):
                ended, out, err = await typed_aside(
                    "keys", "create", "--name", f"key{number}", "--config", path
                )
                assert (ended, err) == (0, "")
                assert owned(keys) == owned(keys.with_name("keys.yaml.lock")) == (DYNAMIC, DYNAMIC, 0o600)
                assert (await child.until("keys_loaded", number + 1))["count"] == number
                assert await status(child, out.splitlines()[0]) == 200
            assert await status(child, "") == 401
            assert not [line for line in child.lines if line["event"].startswith("keys_file")]


async def test_the_user_of_the_service_changes_keys_that_root_has_created(folder, written):
    keys = state(folder, IMAGE) / "keys.yaml"
    path = written("http://127.0.0.1:1", keys)
    _, out, _ = await typed_aside("keys", "create", "--name", "first", "--config", path)
    ended, out, err = await run("keys", "rotate", out[4:12], "--config", path, before=become(IMAGE))
    assert (ended, err) == (0, "")
    assert (await run("keys", "create", "--name", "second", "--config", path, before=become(IMAGE)))[0] == 0
    assert (await typed_aside("keys", "revoke", out[4:12], "--config", path))[0] == 0
    assert owned(keys) == (IMAGE, IMAGE, 0o600)


async def test_keys_of_root_are_valid_in_a_service_whose_group_may_read_them(folder, written):
    keys = state(folder, 0, 0o755) / "keys.yaml"
    async with answering() as upstream:
        path = written(upstream.url, keys)
        owner = ("--owner", f"root:{IMAGE}")
        ended, out, err = await typed_aside("keys", "create", "--name", "first", *owner, "--config", path)
        assert (ended, err) == (0, "")
        assert f"{keys} is new, and root and the group {IMAGE} can read it: " in out
        async with gateway("serve", "--config", path, before=become(IMAGE)) as child:
            await child.listens()
            assert await status(child, out.splitlines()[0]) == 200
            assert (await typed_aside("keys", "create", "--name", "second", "--config", path))[0] == 0
            assert (await child.until("keys_loaded", 2))["count"] == 2
            assert not [line for line in child.lines if line["event"].startswith("keys_file")]
    assert owned(keys) == (0, IMAGE, 0o640)


async def test_a_service_that_cannot_read_the_keys_says_so_and_how_to_mend_it(folder, written):
    keys = state(folder, 0, 0o755) / "keys.yaml"
    path = written("http://127.0.0.1:1", keys)
    _, out, _ = await typed_aside("keys", "create", "--name", "first", "--config", path)
    ended, _, err = await run("serve", "--config", path, before=become(IMAGE))
    said = "let the gateway's user read it, with chown or with --owner of the keys commands"
    assert (ended, err) == (2, f"{keys}:1: the file cannot be read (Permission denied): {said}\n")
    await typed_aside("keys", "rotate", out[4:12], "--owner", f"{IMAGE}", "--config", path)
    assert (await run("check", "--config", path, before=become(IMAGE)))[0] == 0


async def test_another_user_cannot_give_the_keys_away(folder, written):
    keys = state(folder, IMAGE) / "keys.yaml"
    path = written("http://127.0.0.1:1", keys)
    owner = ("--owner", f"{DYNAMIC}")
    ended, out, err = await run(
        "keys", "create", "--name", "a", *owner, "--config", path, before=become(IMAGE)
    )
    assert (ended, out) == (1, "")
    assert err.endswith("only root can give it away: run this as root, or without --owner\n")
    assert not keys.exists()


def test_the_unit_and_the_image_have_the_folder_that_is_documented():
    document = (ROOT / "deploy" / "README.md").read_text()
    assert f"`keys_file: {KEYS_FILE}`" in document
    folder = str(Path(KEYS_FILE).parent)
    assert f"-v flowise-gateway:{folder} " in document
    assert unit_settings()["StateDirectory"] == [Path(folder).name]
    assert f"keys_file: {KEYS_FILE}" in (ROOT / "deploy" / "systemd" / "flowise-gateway.service").read_text()
    (made,) = [argument for name, argument in instructions() if name == "RUN" and folder in argument]
    assert re.search(rf"install --directory --owner {IMAGE} --group {IMAGE} --mode 0700 {folder}$", made)
    assert f"ENV GATEWAY_KEYS_FILE={KEYS_FILE}\n" in DOCKERFILE.read_text()
