"""Proxies in front of a gateway, started from the files in deploy/ with ports and folders of the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.clock import time_passes
from tests.harness.ports import free_port
from tests.harness.processes import ROOT
from tests.harness.programs import program

DEPLOY = ROOT / "deploy"
CERTIFICATES = ROOT / "tests" / "harness" / "certs"


class Front:
    """A running proxy. `url`: where clients reach it."""

    def __init__(self, url: str, logs: Path) -> None:
        self.url = url
        self._logs = logs

    def log(self) -> str:
        """Everything that it has written."""
        return "".join(path.read_text() for path in sorted(self._logs.glob("*.log")))

    async def logged(self, text: str) -> str:
        """The same, once it has this text."""
        while text not in self.log():
            await time_passes(0.01)
        return self.log()


@dataclass(frozen=True)
class Shipped:
    """How a shipped file becomes one for a test: texts that occur in it exactly once, and what replaces them."""

    file: Path
    program: str
    command: tuple[str, ...]
    changes: Mapping[str, str]
    environ: Mapping[str, str]

    def written(self, folder: Path, values: Mapping[str, str]) -> Path:
        text = self.file.read_text()
        for old, new in self.changes.items():
            assert text.count(old) == 1, f"{self.file} has {old!r} {text.count(old)} times"
            text = text.replace(old, new.format_map(values))
        path = folder / self.file.name
        path.write_text(text)
        return path


FRONTS = {
    "caddy": Shipped(
        DEPLOY / "caddy" / "Caddyfile",
        "caddy",
        ("run", "--adapter", "caddyfile", "--config", "{file}"),
        {},
        {
            "SITE": "https://localhost:{port}",
            "GATEWAY": "127.0.0.1:{gateway}",
            "HTTP_PORT": "{other}",
            "CADDY_ADMIN": "unix//{folder}/admin",
            "HOME": "{folder}",
        },
    ),
    "nginx": Shipped(
        DEPLOY / "nginx" / "nginx.conf",
        "nginx",
        ("-c", "{file}", "-g", "daemon off;"),
        {
            "listen 443 ssl": "listen 127.0.0.1:{port} ssl",
            "server 127.0.0.1:8080;": "server 127.0.0.1:{gateway};",
            "/etc/nginx/tls/fullchain.pem": "{folder}/server.pem",
            "/etc/nginx/tls/privkey.pem": "{folder}/server-key.pem",
            "/var/log/nginx/access.log": "{folder}/access.log",
            "/var/log/nginx/error.log": "{folder}/error.log",
            "pid /run/nginx.pid;": "pid {folder}/pid;",
            "http {{\n".format(): "http {{\n    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n",
        },
        {},
    ),
    "haproxy": Shipped(
        DEPLOY / "haproxy" / "haproxy.cfg",
        "haproxy",
        ("-db", "-f", "{file}"),
        {
            "maxconn 16384": "maxconn 100",
            "bind :443": "bind 127.0.0.1:{port}",
            "/etc/haproxy/tls/site.pem": "{folder}/site.pem",
            "server gateway 127.0.0.1:8080": "server gateway 127.0.0.1:{gateway}",
        },
        {},
    ),
}


@asynccontextmanager
async def running_front(name: str, folder: Path, gateway: int):
    """This proxy in front of the gateway on a port of 127.0.0.1; skips the test if the program is missing."""
    shipped, port, other = FRONTS[name], free_port(), free_port()
    binary = program(shipped.program)
    values = {"folder": str(folder), "port": port, "other": other, "gateway": gateway}
    for part in ("server.pem", "server-key.pem"):
        shutil.copy(CERTIFICATES / part, folder)
    (folder / "site.pem").write_text(
        (folder / "server.pem").read_text() + (folder / "server-key.pem").read_text()
    )
    values["file"] = str(shipped.written(folder, values))
    environ = os.environ | {key: value.format_map(values) for key, value in shipped.environ.items()}
    words = [word.format_map(values) for word in shipped.command]
    with (folder / "output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            binary, *words, env=environ, cwd=folder, stdout=output, stderr=output
        )
    front = Front(f"https://localhost:{port}", folder)
    try:
        while not await _accepts(port):
            assert process.returncode is None, front.log()
            await time_passes(0.01)
        yield front
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _accepts(port: int) -> bool:
    """Whether it completes a TLS handshake: Caddy listens before it has made its certificate."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anybody, server_hostname="localhost")
    except OSError:
        return False
    writer.close()
    return True
