"""The image of a Dockerfile without a container engine: its instructions, executed in chroots of a mount namespace.

A base image `python:X.Y-...` is this system's /usr, with an interpreter of that version as /usr/local. Each stage has a
root of its own with nothing else in it, so that a step cannot use what the file does not copy. As root only:

    unshare --mount --propagation private python -m tests.harness.image FOLDER

builds the image of this repository in an empty folder, tries it without a network (see `tried`), and prints what it
found as one line of JSON. All mounts end with the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from gateway.simulator import CHAIN_ID, Simulator
from tests.harness.gateway import configuration
from tests.harness.interpreters import interpreter
from tests.harness.predictions import answer_of, ask
from tests.harness.processes import ROOT, Served

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1  # of Linux
STATE, CONFIGURATION = "/var/lib/flowise-gateway", "/etc/flowise-gateway/gateway.yaml"
USER_DATABASE = ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf")
NETWORK = ("hosts", "resolv.conf", "ssl")
OF_THE_MACHINE = re.compile(
    r"(PIP_(INDEX_URL|CERT)|SSL_CERT_FILE|(https?|no)_proxy)", re.IGNORECASE
)  # to reach an index


def instructions(path: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """A Dockerfile as pairs of instruction and arguments, with continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(*line.split(maxsplit=1),) for line in whole.splitlines() if line.strip()]


@dataclass
class Stage:
    """One root, and what the instructions have said of it. `said` keeps what is used only when it runs."""

    root: Path
    environ: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin"}
    )
    folder: str = "/"
    user: str = "0:0"
    labels: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str, **environ: str) -> list[str]:
        """The command line that runs these words in the stage, as its user and with nothing of our environment."""
        uid, _, gid = self.user.partition(":")
        pairs = [f"{name}={value}" for name, value in (self.environ | environ).items()]
        become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        if uid != "0":
            become += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        return ["chroot", str(self.root), *become, "env", "-i", f"--chdir={self.folder}", *pairs, *words]


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def based_on(base: str, root: Path) -> Stage:
    """A root as of the image `python:X.Y-...`: this system's /usr, an interpreter, an empty rest."""
    version = re.fullmatch(r"python:([\d.]+)-slim-\w+", base)[1]
    for name in ("usr", "etc", "proc", "dev", "tmp", "var/lib", "opt"):
        (root / name).mkdir(parents=True)
    mount("--bind", root, root)  # so that it can become read-only
    mount("--bind", "-o", "ro", "/usr", root / "usr")
    mount("--bind", "-o", "ro", Path(interpreter(version)).resolve().parents[1], root / "usr" / "local")
    mount("--bind", "-o", "ro", "/dev", root / "dev")
    mount("-t", "proc", "proc", root / "proc")
    mount("-t", "tmpfs", "tmpfs", root / "tmp")
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in (*USER_DATABASE, *NETWORK):
        copied = shutil.copytree if Path("/etc", name).is_dir() else shutil.copy
        if Path("/etc", name).exists():
            copied(f"/etc/{name}", root / "etc" / name)
    (root / "etc" / "ld.so.conf").write_text("/usr/local/lib\n")
    subprocess.run(["chroot", root, "ldconfig"], check=True)
    return Stage(root)


def context(folder: Path) -> Path:
    """The files of the repository that `.dockerignore` lets in."""
    everything, *lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert everything == "*"
    for line in lines:
        if line.startswith("!"):
            target = folder / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            copied = shutil.copytree if (ROOT / line[1:]).is_dir() else shutil.copy
            copied(ROOT / line[1:], target)
        else:
            for path in list(folder.glob(line)):
                shutil.rmtree(path)
    return folder


def copy(source: Path, names: list[str], stage: Stage, into: str) -> None:
    target = (
        stage.root / f"{stage.folder}/{into}".lstrip("/")
        if not into.startswith("/")
        else stage.root / into[1:]
    )
    for path in (source / name.lstrip("/") for name in names):
        if path.is_dir():  # its content
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def built(folder: Path) -> Stage:
    """Execute every instruction of the Dockerfile; returns the last stage."""
    files, stages, stage = context(folder / "context"), {}, None
    of_machine = {name: value for name, value in os.environ.items() if OF_THE_MACHINE.fullmatch(name)}
    for name, said in instructions():
        match name:
            case "FROM":
                base, _, alias = said.partition(" AS ")
                stage = stages[alias or "last"] = based_on(base, folder / (alias or "last"))
            case "WORKDIR":
                stage.folder = said
                (stage.root / said[1:]).mkdir(parents=True, exist_ok=True)
            case "COPY":
                *names, into = said.split()
                origin = names.pop(0).removeprefix("--from=") if names[0].startswith("--from=") else ""
                copy(stages[origin].root if origin else files, names, stage, into)
            case "RUN":
                subprocess.run(
                    stage.command("/bin/sh", "-c", said, **of_machine), check=True, stdout=sys.stderr
                )
            case "ENV" | "ARG" | "LABEL":
                for key, value in pairs_of(said, stage.environ):
                    (stage.labels if name == "LABEL" else stage.environ)[key] = value
            case "USER":
                stage.user = said
            case "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                stage.said[name] = said
            case _:
                raise AssertionError(f"{name} is not known here")
    return stage


def pairs_of(said: str, environ: dict[str, str]) -> Iterator[tuple[str, str]]:
    for word in shlex.split(said):
        name, _, value = word.partition("=")
        yield name, re.sub(r"\$\{?(\w+)\}?", lambda found: environ.get(found[1], ""), value)


def health_of(stage: Stage) -> list[str]:
    """The command of HEALTHCHECK, which a shell runs unless it is a list."""
    said = stage.said["HEALTHCHECK"].partition("CMD ")[2]
    return json.loads(said) if said.startswith("[") else ["/bin/sh", "-c", said]


async def ended(*command: str) -> tuple[int, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@asynccontextmanager
async def serving(stage: Stage, *words: str, **environ: str):
    """The image's entry point with these words, until the end of the block."""
    pipe = asyncio.subprocess.PIPE
    command = stage.command(*json.loads(stage.said["ENTRYPOINT"]), *words, **environ)
    child = Served(await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe))
    try:
        await child.listens()
        yield child
    finally:
        await child.end()


async def tried(stage: Stage) -> dict[str, object]:
    """Run the image on a read-only root in front of the simulator: ask, health, a key, stop, health again."""
    found: dict[str, object] = {}
    async with Simulator() as flowise:
        environ = {
            "FLOWISE_URL": flowise.url,
            "GATEWAY_ROUTES": f"chat={CHAIN_ID}",
            "GATEWAY_AUTH": "anonymous",
        }
        async with serving(stage, *json.loads(stage.said["CMD"]), **environ) as child:
            status, kind, body = await ask(f"http://127.0.0.1:{stage.said['EXPOSE']}", "chat", "Hello")
            found["answer"] = [status, kind, answer_of(body)]
            found["healthy"] = await ended(*stage.command(*health_of(stage), **environ))
            create = ("flowise-gateway", "keys", "create", "--name", "a")
            found["key"] = await ended(*stage.command(*create, **environ))
            await child.until("keys_loaded")
            said = Path(f"/proc/{child.pid}/status").read_text()
            found["process"] = {
                name: re.search(rf"^{name}:\s+(\S+)", said, re.MULTILINE)[1]
                for name in ("Uid", "CapEff", "NoNewPrivs")
            }
            child.send_signal(signal.Signals[stage.said["STOPSIGNAL"]])
            found["ended"] = await child.ended()
        found["after"] = await ended(*stage.command(*health_of(stage), **environ))
    written = await ended(*stage.command("/bin/sh", "-c", f"touch /x {STATE}/x /tmp/x"))
    return found | {"written": written[1].splitlines()}


async def tried_with_a_file(stage: Stage, file: str) -> tuple[int, str]:
    """The health check of a gateway whose mounted configuration has another admin port."""
    sections = configuration("http://127.0.0.1:9", admin={"listen": "127.0.0.1:9191"})
    (stage.root / file[1:]).write_text(yaml.safe_dump(sections))
    async with serving(stage, "serve", "--config", file):
        return await ended(*stage.command(*health_of(stage)))


def leave_the_network() -> None:
    """A network of our own, with nothing but a loopback: every port is free, and nothing else can be reached."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def main(folder: Path) -> None:
    stage = built(folder)
    found = {"labels": stage.labels, "sbom": (stage.root / "opt/flowise-gateway/sbom.cdx.json").read_text()}
    uid, place = (stage.root / STATE[1:]).stat().st_uid, stage.root / CONFIGURATION[1:]
    place.parent.mkdir()
    mount(
        "-t", "tmpfs", "-o", f"uid={uid},gid={uid},mode=0700", "tmpfs", stage.root / STATE[1:]
    )  # the volume
    mount("-o", "remount,bind,ro", stage.root)
    leave_the_network()
    found |= asyncio.run(tried(stage))
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", place.parent)
    found["file"] = asyncio.run(tried_with_a_file(stage, CONFIGURATION))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
